"""Rollout: a canary beside the stable version, judged on evidence, promoted or rolled back."""
