"""Tests of the scripts in tools/ that decide whether a change passes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

TOOLS = Path(__file__).resolve().parent.parent / "tools"


def load(name: str) -> ModuleType:
    """Import a script without running it."""
    specification = importlib.util.spec_from_file_location(f"tools_{name}", TOOLS / f"{name}.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class CountTests(SynchronousTestCase):
    """How many tests ran is read from what the runners print last."""

    def setUp(self) -> None:
        """Load the script."""
        self.tool = load("run_tests")

    def test_trial(self) -> None:
        """Trial counts skipped and failed tests too."""
        output = (
            "tests.test_x\n  test_y ...   [OK]\n\n"
            "-------\nRan 1204 tests in 12.345s\n\nFAILED (skips=1, failures=1, successes=1202)\n"
        )
        self.assertEqual(self.tool.trialCount(output), 1204)
        self.assertEqual(self.tool.trialCount("Ran 1 test in 0.1s\n\nPASSED (successes=1)\n"), 1)

    def test_trialWithoutEnd(self) -> None:
        """Trial that did not get to its end is no number, even where it began with one."""
        self.assertRaises(ValueError, self.tool.trialCount, "Running 1204 tests.\nTraceback\n")

    def test_pytest(self) -> None:
        """Every outcome of a test counts once; warnings, deselected tests and subtests do not."""
        for line, count in (
            ("===== 1204 passed in 12.34s =====", 1204),
            ("== 1 failed, 1200 passed, 3 skipped, 2 warnings in 83.10s (0:01:23) ==", 1204),
            ("2 passed, 1 error in 0.10s", 3),
            ("=== 4 passed, 1 xfailed, 1 xpassed, 9 subtests passed in 1.00s ===", 6),
            ("=== 5 deselected, 1 passed, 2 errors in 1.00s ===", 3),
            ("===== no tests ran in 0.01s =====", 0),
        ):
            self.assertEqual(self.tool.pytestCount(f"tests/test_x.py ..\n\n{line}\n"), count, line)

    def test_pytestWithoutEnd(self) -> None:
        """Pytest that did not get to its end is no number."""
        self.assertRaises(ValueError, self.tool.pytestCount, "collected 1204 items\n\ntests .....")

    def test_closing(self) -> None:
        """The closing lines are the last that are not blank."""
        self.assertEqual(self.tool.closing("a\n\nb\n\n\nc\n\n", 2), "b\nc")
