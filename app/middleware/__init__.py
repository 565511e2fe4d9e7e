"""What every request passes before its route: id, key, rate limit, body limit, log. It knows no models."""
