"""Bytes of V1, V2 and gRPC to questions, and answers back to bytes."""
