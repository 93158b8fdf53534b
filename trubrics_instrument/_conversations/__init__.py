"""What is remembered of conversations, by their history: which one a question is of, which turn."""
