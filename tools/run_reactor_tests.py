"""Run Twisted's own tests of reactors over ours, and compare the outcome with what is written here.

Every case that does not pass stands in EXCEPTIONS with its reason.  Any other failure fails the
run, and so does an exception that no longer is one.  The same cases run over Twisted's epoll
reactor, so that what fails for the sake of the machine is told from what fails for our reactor's.

Each module of tests runs in a process of its own.  A case that hangs is ended with its process, and
the cases after it run in another.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

REACTORS = {
    "uvloop": "run_reactor_tests.uvloopReactor",
    "epoll": "twisted.internet.epollreactor.EPollReactor",
}
"""What Twisted's tests make each reactor with."""

MODULES = (
    "core",
    "endpoints",
    "fdset",
    "newtls",
    "process",
    "sigchld",
    "socket",
    "stdio",
    "tcp",
    "threads",
    "time",
    "tls",
    "udp",
    "unix",
)
"""The modules twisted.internet.test.test_*: all those that make reactors, but for the ones that are
of one operating system."""

MACHINE = "as the machine has it"
"""Over our reactor it is as over epoll's, passed or not."""

EXCEPTIONS: dict[str, tuple[str, str]] = {
    "test_process.*.test_changeUID": (
        MACHINE,
        "Run by root: the child, being somebody else, must be able to read this Python.",
    ),
    "test_process.*.test_changeGID": (
        MACHINE,
        "Run by root: the child, being of another group, must be able to read this Python.",
    ),
    "test_process.ProcessIsUnimportableOnUnsupportedPlatormsTests.test_unimportableOnWindows": (
        "skipped",
        "Of Windows only.",
    ),
    "test_time.GlibTimeTestsBuilder_GIReactorTests.test_timeout_add": (
        MACHINE,
        "Of GLib's reactor, and no other; it is skipped where GLib is not installed.",
    ),
}
"""The cases that need not pass: what becomes of each instead, and why."""

CASE_LIMIT = 30.0
"""Seconds without anything from a case, after which it hangs."""

REACTOR_LIMIT = 15.0
"""Seconds for which a case lets its reactor run; Twisted's own limit is 120."""

RUN_LIMIT = 600.0
"""Seconds for all of it."""


# In the process that runs the cases


def uvloopReactor(case: Any) -> Any:
    """Make a reactor for a case, on a loop that is closed after it."""
    import asyncio

    from sockproto.reactor import UvloopReactor

    reactor = UvloopReactor()
    case.addCleanup(asyncio.set_event_loop, None)
    case.addCleanup(reactor.loop.close)
    return reactor


def runCases(reactor: str, module: str, done: set[str]) -> None:
    """Run the cases of one module, and print what becomes of each, as lines of JSON.

    :param done: those to leave out.
    """
    import warnings

    from twisted.internet.test.reactormixins import ReactorBuilder
    from twisted.trial import reporter, runner

    ReactorBuilder._reactors = [REACTORS[reactor]]
    ReactorBuilder.timeout = REACTOR_LIMIT  # type: ignore[attr-defined]
    # The made classes bear the reactor's name; the cases are to be the same for both.
    maker = REACTORS[reactor].rpartition(".")[2]

    def nameOf(case: Any) -> str:
        name = str(case.id()).removeprefix("twisted.internet.test.")
        return name.replace(f"_{maker}Tests.", ".")

    def tell(**event: str) -> None:
        print(json.dumps(event), flush=True)

    class Result(reporter.TestResult):
        def startTest(self, case: Any) -> None:
            super().startTest(case)
            tell(case=nameOf(case), outcome="hangs", text="")

        def addSuccess(self, case: Any) -> None:
            super().addSuccess(case)
            tell(case=nameOf(case), outcome="passed", text="")

        def addSkip(self, case: Any, reason: Any) -> None:
            super().addSkip(case, reason)
            tell(case=nameOf(case), outcome="skipped", text=str(reason))

        def addError(self, case: Any, error: Any) -> None:
            super().addError(case, error)
            text = getattr(error, "getTraceback", error.__str__)()
            tell(case=nameOf(case), outcome="failed", text=str(text))

        addFailure = addError

    warnings.simplefilter("ignore")
    suite = runner.TestLoader().loadByName(f"twisted.internet.test.test_{module}")

    def cases(part: Any) -> Iterator[Any]:
        for inner in getattr(part, "_tests", ()):
            yield from cases(inner)
        if hasattr(part, "id") and not hasattr(part, "_tests"):
            yield part

    result = Result()
    for case in list(cases(suite)):
        if nameOf(case) not in done:
            case.run(result)


# In the process that judges


def runModule(reactor: str, module: str, deadline: float, folder: str) -> dict[str, dict[str, str]]:
    """Run the cases of one module in as many processes as it takes.

    :return: what became of each.
    """
    outcomes: dict[str, dict[str, str]] = {}
    while time.monotonic() < deadline:
        child = subprocess.Popen(
            [sys.executable, __file__, "--run", reactor, module],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            hung = _listen(child, outcomes, deadline)
        finally:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()
        if not hung:
            if child.returncode not in (0, -signal.SIGKILL):
                text = f"exit status {child.returncode}"
                outcomes[f"test_{module}"] = {"outcome": "ended early", "text": text}
            break
    return outcomes


def _listen(
    child: subprocess.Popen[bytes], outcomes: dict[str, dict[str, str]], deadline: float
) -> bool:
    """Take a process's outcomes as they come.

    :return: whether it was left because a case hangs.
    """
    assert child.stdin is not None and child.stdout is not None
    with child.stdin, child.stdout, selectors.DefaultSelector() as selector:
        child.stdin.write(json.dumps(list(outcomes)).encode())
        child.stdin.close()
        selector.register(child.stdout, selectors.EVENT_READ)
        rest = b""
        while selector.select(min(CASE_LIMIT, max(0.0, deadline - time.monotonic()))):
            data = os.read(child.stdout.fileno(), 2**16)
            if not data:
                child.wait(CASE_LIMIT)
                return False
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                try:
                    event = json.loads(line)
                    name = event.pop("case")
                except (ValueError, KeyError, AttributeError):
                    continue  # something that a case itself has printed
                before = outcomes.get(name, {}).get("outcome")
                if before not in ("failed", "skipped"):  # of one failure more than one may be told
                    outcomes[name] = event
    return True


def judge(
    ours: dict[str, dict[str, str]], theirs: dict[str, dict[str, str]]
) -> Iterator[tuple[str, str]]:
    """Give each case whose outcome is not the one to expect, and how so."""
    used = set()
    for name, outcome in sorted(ours.items()):
        expected, reason = "passed", ""
        for pattern, exception in EXCEPTIONS.items():
            if re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), name):
                expected, reason = exception
                used.add(pattern)
        if expected == MACHINE:
            expected = theirs.get(name, {"outcome": "not run"})["outcome"]
        if outcome["outcome"] != expected:
            told = "" if not reason else f", for: {reason}"
            yield name, f"{outcome['outcome']}, not {expected}{told}\n{outcome['text']}"
        elif expected != "passed":
            print(f"{expected:>8}: {name}\n          {reason}")
    for pattern in EXCEPTIONS.keys() - used:
        yield pattern, "there is no such case"


def main() -> int:
    """Run the cases over both reactors, and judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", choices=[*MODULES, []], metavar="MODULE")
    parser.add_argument("--run", choices=list(REACTORS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run is not None:
        runCases(arguments.run, arguments.modules[0], set(json.load(sys.stdin)))
        return 0
    modules = arguments.modules or MODULES
    deadline = time.monotonic() + RUN_LIMIT
    outcomes: dict[str, dict[str, dict[str, str]]] = {}
    with tempfile.TemporaryDirectory(prefix="sp-", ignore_cleanup_errors=True) as folder:
        for reactor in REACTORS:
            outcomes[reactor] = {}
            for module in modules:
                found = runModule(reactor, module, deadline, folder)
                if not found:
                    found = {f"test_{module}": {"outcome": "not run", "text": ""}}
                outcomes[reactor].update(found)
            counts = collections.Counter(each["outcome"] for each in outcomes[reactor].values())
            told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
            print(f"{reactor}: {told}", flush=True)
    wrong = 0
    for name, words in judge(outcomes["uvloop"], outcomes["epoll"]):
        if not arguments.modules or words != "there is no such case":
            wrong += 1
            print(f"reactor: {name}: {words}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
