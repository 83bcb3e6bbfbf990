"""Evaluation of multi-label models, whose answer to a text is a set of labels."""
