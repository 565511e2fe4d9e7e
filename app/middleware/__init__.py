"""What every request passes before its route, one concern a file: id, key, rate, bounds, log. It knows no models."""
