"""The version, read by the build and sent as `source`."""

__version__ = "0.1.0"
