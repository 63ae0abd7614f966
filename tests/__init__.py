"""The tests of sockproto; both trial and pytest run them all."""

from hypothesis import HealthCheck, settings

# How long an example takes is no matter of the tests: machines are shared and slow at times.
settings.register_profile("sockproto", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sockproto")
