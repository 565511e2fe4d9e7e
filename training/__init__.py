"""The offline job: read, split, fit, evaluate, judge, publish. It knows no HTTP server."""
