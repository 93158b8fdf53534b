"""One reader for each provider's SDK, with the points where it is patched."""
