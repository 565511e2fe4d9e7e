"""The version of this package, which is that of the service it was tested against."""

__version__ = "0.1.0"
