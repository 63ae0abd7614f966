"""Configurations to start from: ``tutorials.toml`` starts every tutorial dialect on this machine."""
