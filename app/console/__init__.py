"""The console: pages for people, in a browser, that ask the same HTTP API as everybody else."""
