"""Behavioural tests, which may stand beside the data: how they are written, and the changes that they may name."""
