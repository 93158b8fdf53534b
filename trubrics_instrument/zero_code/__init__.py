"""Observing an app without a change to its code; each way in is a file of its own."""
