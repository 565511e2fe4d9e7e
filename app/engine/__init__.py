"""Computes answers from the current model: ids in, predictions and lists out. It knows neither HTTP nor settings."""
