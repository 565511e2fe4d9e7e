"""Runs uvicorn: processes, limits of connections, admission and shutdown. It knows neither routes nor models."""
