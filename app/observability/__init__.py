"""Metrics, logs and traces. It knows no routes and no models: the rest of the service reports events to it."""
