"""Explanations: one at a time, those of the transformer in a process of its own."""
