"""What the service is measured against: servers that do less, or do the same in the obvious way.

Each reads the directory of checkpoints from RATECAST_CHECKPOINTS where it needs one.
"""
