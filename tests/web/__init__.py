"""The middleware, inside real web frameworks and behind real servers."""
