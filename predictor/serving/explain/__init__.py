"""Explanations: computed by a process of its own, which is asked one at a time."""
