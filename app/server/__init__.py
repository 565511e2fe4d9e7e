"""The server: uvicorn's processes, the bounds of a connection, admission and shutdown. It knows neither routes nor models."""
