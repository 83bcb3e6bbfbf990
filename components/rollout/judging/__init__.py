"""The judge: what was counted, and whether it speaks against the canary."""
