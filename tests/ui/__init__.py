"""The chat UIs: their sessions, their feedback widgets, and the example apps."""
