"""Metrics, logs and traces. The rest of the service reports events and does not import this folder."""
