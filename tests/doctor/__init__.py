"""The doctor: what it finds, and what it says to do."""
