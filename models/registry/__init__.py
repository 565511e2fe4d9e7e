"""Published versions in a directory or behind a URL: list, activate, roll back, prune, copy. It knows no service."""
