"""The server program: configuration, listeners, reload and drain."""
