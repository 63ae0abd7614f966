"""The tests of sockproto; both trial and pytest run them all."""
