"""The wire formats as machines without I/O; nothing in here imports Twisted."""
