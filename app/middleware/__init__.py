"""What every request passes before its route: report, access, rate limit, CORS. It knows no models."""
