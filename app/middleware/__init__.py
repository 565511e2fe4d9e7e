"""The layers that every request passes before its route: report, access, rate limit, CORS. They know no models."""
