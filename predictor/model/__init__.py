"""The model of a bundle: text to tokens to probabilities."""
