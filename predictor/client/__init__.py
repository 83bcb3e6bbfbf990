"""Asking a server, ours or another of the protocol."""
