"""The OpenAI patch, on loopback servers and with the real SDK."""
