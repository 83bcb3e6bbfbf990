"""What the steps run on: Kubernetes, object storage, MLflow, a terminal, the end of a process."""
