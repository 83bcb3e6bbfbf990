"""The judge: the evidence on both versions, and whether it proves the canary worse."""
