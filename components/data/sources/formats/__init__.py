"""Formats of tables: delimited text, JSON lines and Parquet, read in chunks."""
