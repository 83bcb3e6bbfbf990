"""The loop as a demo: traffic shifts, an alert fires, the model is trained again and served, the alert resolves."""
