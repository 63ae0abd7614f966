"""Tests of telling patterns that can take exponential time."""

from twisted.trial.unittest import SynchronousTestCase

from sockproto.services.command.parameters import Parameter
from sockproto.services.command.pattern_cost import repeats_a_repeat


class PatternTests(SynchronousTestCase):
    """Tests of `repeats_a_repeat`."""

    def test_slow(self) -> None:
        """A repeat that varies within a repeat is found, however deep it stands."""
        for pattern in (
            "([a-z]+/?)+",
            "(a+)+b",
            "(a*)*",
            "((a|b)+c)*",
            "(?:x{1,9}){1,9}",
            "x(?=(a+)+)",
            "a|(b?)*",
            "(?P<n>a)?(?(n)(b+)+|c)",
        ):
            self.assertTrue(repeats_a_repeat(pattern), pattern)

    def test_fast(self) -> None:
        """What rules usually say is not, nor what never tries again."""
        for pattern in (
            "/[A-Za-z0-9_./-]*",
            "[a-z]+@[a-z]+[.][a-z]+",
            "(foo|bar)+",
            "(?>a+)+",
            "(?:[0-9]{1,3}[.]){3}[0-9]{1,3}",
            "(a{2})+",
            "(a|b)?c+",
        ):
            self.assertFalse(repeats_a_repeat(pattern), pattern)

    def test_refused(self) -> None:
        """Such a pattern is refused when the rule is read, not found out when it hangs."""
        error = self.assertRaises(ValueError, Parameter, pattern="(a+)+b")
        self.assertIn("a repeat within a repeat", str(error))
