"""From the bytes of V1, V2 and gRPC to requests, and from answers back to bytes."""
