"""Tuning: a search over hyper-parameters that one Katib Experiment file describes."""
