"""What jobs and the shared cache have in common: connections to Redis, and their metrics."""
