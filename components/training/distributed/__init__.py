"""Training on several machines: the TrainJob, and the program its containers run."""
