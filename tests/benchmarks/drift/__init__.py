"""How well drift is found on real text, and how often where there is none."""
