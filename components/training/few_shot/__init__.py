"""Training with few labels: a head on frozen embeddings, with or without contrastive steps."""
