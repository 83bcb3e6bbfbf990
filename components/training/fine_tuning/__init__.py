"""Fine-tuning: the model, its batches, the loop and its checkpoints."""
