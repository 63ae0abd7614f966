"""Run the whole suite under trial and under pytest at the same time, and compare their counts.

A test that only one of them sees (a bare test function, a class that is not a trial TestCase) would
otherwise go unnoticed.  What a runner printed is shown whole where it failed, and by its closing
lines where it passed.  The tests see an empty home, so that no keyring or configuration of the
user's plays a part.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "_trial_temp_run"
LIMIT = 1200.0
"""Seconds after which a run that hangs is ended."""

KEPT = {"SOCKPROTO_REQUIRE_CLIENTS"}
"""The project's own variables that are meant for the tests."""


def trialCount(output: str) -> int:
    """Find how many tests trial ran.

    :raises ValueError: it did not get as far as saying so.
    """
    found = re.findall(r"^Ran (\d+) tests? in ", output, re.MULTILINE)
    if len(found) != 1:
        raise ValueError("trial did not say how many tests it ran")
    return int(found[0])


def pytestCount(output: str) -> int:
    """Find how many tests pytest ran, or skipped, whatever became of them.

    :raises ValueError: it did not get as far as saying so.
    """
    found = re.findall(r"^=*\s*(\d+ [a-z].*|no tests ran) in [\d.]+s\b.*$", output, re.MULTILINE)
    if not found:
        raise ValueError("pytest did not say how many tests it ran")
    outcomes = r"\b(\d+) (?:passed|failed|skipped|xfailed|xpassed|errors?)\b"
    return sum(int(number) for number in re.findall(outcomes, found[-1]))


def closing(output: str, lines: int) -> str:
    """Take the last lines that say something."""
    return "\n".join([line for line in output.splitlines() if line.strip()][-lines:])


class Runner:
    """One test runner under way.

    :param name: what to call it, and its folder.
    :param arguments: those of Python, without the interpreter.
    :param temporary: the folder that its tests' temporary files go to.  It is not in the checkout,
        as the path of a Unix socket has to be short.
    """

    def __init__(self, name: str, arguments: list[str], temporary: Path) -> None:
        self.name = name
        home = FOLDER / f"{name}-home"
        home.mkdir(mode=0o700)
        temporary.mkdir(mode=0o700)
        self._output = FOLDER / f"{name}.txt"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=self._environment(os.environ, home, temporary),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @staticmethod
    def _environment(given: Mapping[str, str], home: Path, temporary: Path) -> dict[str, str]:
        ours = {
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), given.get("PATH", "")]),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(home / "hypothesis"),
            "COLUMNS": "100",
        }
        ignored = ("SOCKPROTO_", "XDG_", "PYTEST_", "COV_")
        return {
            name: value
            for name, value in given.items()
            if name in KEPT or not name.startswith(ignored)
        } | ours

    def output(self) -> str:
        """Read what it has printed."""
        return self._output.read_text(errors="replace")

    def end(self) -> None:
        """End it and what it started, if it still runs."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                os.killpg(self.process.pid, number)
                try:
                    self.process.wait(10)
                except subprocess.TimeoutExpired:
                    continue


def runAll(temporary: Path) -> list[str]:
    """Run both and print what they say.

    :returns: what is wrong, in words; empty if nothing is.
    """
    started = time.monotonic()
    options = [f"--temp-directory={FOLDER / 'trial'}", "--reporter=text"]
    trial = Runner("trial", ["-m", "twisted.trial", *options, "tests"], temporary / "t")
    pytest = Runner("pytest", ["-m", "pytest"], temporary / "p")
    wrong = []
    try:
        for runner in (trial, pytest):
            try:
                runner.process.wait(max(0.0, started + LIMIT - time.monotonic()))
            except subprocess.TimeoutExpired:
                wrong.append(f"{runner.name} did not finish within {LIMIT:.0f} seconds")
    finally:
        trial.end()
        pytest.end()
    counts = []
    for runner, count, lines in ((trial, trialCount, 2), (pytest, pytestCount, 1)):
        output = runner.output()
        failed = runner.process.returncode != 0
        shown = output if failed else closing(output, lines)
        print(f"--- {runner.name}", shown, sep="\n", flush=True)
        if failed:
            wrong.append(f"{runner.name} failed, with exit status {runner.process.returncode}")
        try:
            counts.append(count(output))
        except ValueError as error:
            wrong.append(str(error))
    if counts and min(counts) == 0:
        wrong.append("no test ran")
    if len(set(counts)) == 2:
        wrong.append("trial ran {} tests and pytest {}".format(*counts))
    elif len(counts) == 2:
        seconds = time.monotonic() - started
        print(f"--- both ran {counts[0]} tests, together in {seconds:.0f} seconds", flush=True)
    return wrong


def main() -> int:
    """Run the tests in folders of their own, which are removed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Path(__file__).open() as lock:  # any open file of the checkout can carry the lock
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("tests: another run is under way in this checkout", file=sys.stderr)
            return 1
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir()
        try:
            with tempfile.TemporaryDirectory(prefix="sp-", ignore_cleanup_errors=True) as temporary:
                wrong = runAll(Path(temporary))
        except KeyboardInterrupt:
            return 130
        finally:
            shutil.rmtree(FOLDER, ignore_errors=True)
    for words in wrong:
        print(f"tests: {words}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
