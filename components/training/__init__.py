"""Training: baseline, fine-tuning, export."""

from predictor.model.cpus import configure_openmp

# Here, since no process trains without loading this package, and none of its modules can import torch before. A process
# that starts others, such as `pigeonhole run`, also hands the settings on to them.
configure_openmp()
