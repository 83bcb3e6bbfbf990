"""Preflight: what later steps would refuse is refused before anything takes long."""
