"""Batch scoring: large files split into parts, each scored by one pure function, here, by a pipeline or by Spark."""
