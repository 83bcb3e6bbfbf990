"""Asynchronous jobs: many texts, answered later by whichever replica has time, over Redis."""
