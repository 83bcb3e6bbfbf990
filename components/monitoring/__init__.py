"""Watching a model in service: what its prediction log says, and what follows from it."""
