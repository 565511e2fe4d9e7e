"""The command line of the offline job, a file for each command. Nothing here is slow to import: what is, commands
import when they run, so that help and completion come at once."""
