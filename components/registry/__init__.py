"""Registry: MLflow runs and versions, bundle storage."""
