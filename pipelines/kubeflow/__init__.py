"""Kubeflow Pipelines: the client, packages, submission, schedules."""
