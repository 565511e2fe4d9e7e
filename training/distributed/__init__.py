"""One fit by several processes, which torchrun starts: which rows each has, and what they send one another.

Only the command line imports this package, and only in a process that torchrun has started.
"""
