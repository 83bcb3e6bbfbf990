"""Serving a bundle: queue and batches, scheduler, KServe model, HTTP and gRPC servers."""
