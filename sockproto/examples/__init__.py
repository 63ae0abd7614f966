"""Configurations to start from; ``tutorials.toml`` starts all the tutorial dialects."""
