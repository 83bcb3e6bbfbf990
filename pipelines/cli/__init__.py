"""The command line `pigeonhole`."""
