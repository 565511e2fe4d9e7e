"""The command line of the offline job. It knows options and output, not how the work is done.

A command imports slow modules when it runs, so that help and completion are fast.
"""
