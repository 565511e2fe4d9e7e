"""The format of a checkpoint: reading, writing, verifying. It does not know which version is served."""
