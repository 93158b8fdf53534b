"""The ground floor: what every room stands on, and knows nothing of events."""
