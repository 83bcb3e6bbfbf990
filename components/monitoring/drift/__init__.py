"""Drift: whether the texts of a window, and the answers to them, are still like the bundle's reference."""
