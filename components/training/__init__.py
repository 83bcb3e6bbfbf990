"""Training: baseline, fine-tuning, export."""
