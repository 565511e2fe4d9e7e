"""uvicorn: its processes, the bounds of a connection, admission and shutdown. It knows neither routes nor models."""
