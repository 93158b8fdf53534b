"""What the app, its web framework or its chat UI says of who asks, and where."""
