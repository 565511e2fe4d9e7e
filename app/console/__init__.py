"""The console: pages for a browser, which use the same HTTP API as all clients. It knows no engine and no models."""
