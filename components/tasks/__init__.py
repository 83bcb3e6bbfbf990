"""Tasks: what a classifier is for, each a small settings file."""
