"""Kubeflow Pipelines: the API client, compiled packages, runs, schedules."""
