"""What the data stage costs and finds: cleaning, near-copies, preparing, label errors, labelling."""
