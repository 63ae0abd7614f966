"""What a listener can serve."""
