"""What workers have imported already when they are forked. Garbage collections in them copy no page of it."""

import gc

import app.main  # noqa: F401

gc.collect()
gc.freeze()
