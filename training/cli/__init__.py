"""The command line of the offline job. It knows how to ask for work and print results, not how work is done.

A command imports slow modules when it runs, so that help and completion are fast.
"""
