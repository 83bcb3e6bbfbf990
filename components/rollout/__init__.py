"""Rollout: a new version beside the one in service, judged on evidence, promoted or taken back."""
