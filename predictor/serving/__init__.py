"""Serving a bundle: the queue, the batches, the protocols."""
