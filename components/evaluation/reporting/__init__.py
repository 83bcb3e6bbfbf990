"""What people read of an evaluation: the report of a run and the model card."""
