"""Inspecting prepared data: what a person should know of it before trusting it."""

ERRORS_FILE = "label_errors.csv"
"""The file of the probable label errors."""
