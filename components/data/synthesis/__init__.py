"""Rows made of rows: by rules of our own, or by a language model behind an OpenAI-compatible endpoint."""
