"""Evaluation: scores, gate, report, model card."""
