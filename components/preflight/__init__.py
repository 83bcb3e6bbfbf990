"""Preflight: refuses at once what a later step would refuse."""
