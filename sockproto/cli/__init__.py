"""The client program; :mod:`sockproto.cli.main` is where it begins."""
