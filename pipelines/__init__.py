"""The DAGs, the ways to run them, and the command line."""
