"""Labelling: which rows to ask people about, what they answered, and which label a row gets."""
