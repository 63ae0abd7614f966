"""The dialects of socket tutorials, byte for byte, for the clients that people wrote from them."""
