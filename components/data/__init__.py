"""Data: collecting, preparing, the embedded sample."""
