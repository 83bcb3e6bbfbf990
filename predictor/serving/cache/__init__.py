"""Answers that are kept for texts asked again: in this process, and in Redis for all replicas."""
