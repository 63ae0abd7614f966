"""Tests of `sockproto.wire.commands`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import RemoteProtocolError
from sockproto.wire.commands import CommandRequest, CommandResult, InvalidRequest
from sockproto.wire.messages import MAX_REASON, decode_json, encode_json

words = st.binary(max_size=20).map(lambda word: word.replace(b"\0", b""))
names = words.map(lambda name: name.replace(b"=", b"")).filter(bool)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("b64"), inner),
    max_leaves=8,
)
TEN_YEARS = 315_360_000


class RequestTests(SynchronousTestCase):
    """What is asked in OPEN."""

    def refused(self, field: str, **changes: Any) -> None:
        """The request with these changes is none, and the error names the field."""
        error = self.assertRaises(
            InvalidRequest, CommandRequest.decode, {"argv": ["true"], **changes}
        )
        self.assertTrue(str(error).startswith(f"{field}: expected") or field in str(error), error)

    @settings(deadline=None)
    @given(
        st.tuples(words.filter(bool), words, words),
        st.booleans(),
        st.none() | st.integers(1, TEN_YEARS) | st.floats(0.001, TEN_YEARS),
        st.none() | words,
        st.dictionaries(names, words, max_size=3),
    )
    def test_roundTrip(
        self,
        argv: tuple[bytes, ...],
        stdin: bool,
        timeout: float | None,
        cwd: bytes | None,
        env: dict[bytes, bytes],
    ) -> None:
        """A request is read as it was written, whatever bytes its words have."""
        request = CommandRequest(argv, stdin, timeout, cwd, env)
        body = {**request.encode(), "credit": {}}
        self.assertEqual(CommandRequest.decode(decode_json(encode_json(body))), request)

    def test_example(self) -> None:
        """What is sent, written out; what was not asked for is left out."""
        self.assertEqual(
            CommandRequest.of(["uname", b"\xff"]).encode(),
            {"service": "command", "argv": ["uname", {"b64": "/w=="}]},
        )
        self.assertEqual(
            CommandRequest.of(
                ["cat"], stdin=True, timeout=5, cwd=Path("/tmp"), env={"A": "1"}
            ).encode(),
            {
                "service": "command",
                "argv": ["cat"],
                "stdin": True,
                "timeout": 5,
                "cwd": "/tmp",
                "env": [["A", "1"]],
            },
        )

    def test_ofALine(self) -> None:
        """A line is no list of words, and nothing is no command."""
        for line in ("ls -l", b"ls -l"):
            error = self.assertRaises(TypeError, CommandRequest.of, line)
            self.assertIn("ls -l", str(error))
        self.assertRaises(ValueError, CommandRequest.of, [])

    def test_ofATimeout(self) -> None:
        """A time-out that could not be kept, or not be said in JSON, is refused at once."""
        for timeout in (0, -1, math.inf, math.nan, TEN_YEARS + 1):
            self.assertRaises(ValueError, CommandRequest.of, ["true"], timeout=timeout)

    def test_argv(self) -> None:
        """The command is a list of byte strings without NUL, and the first is not empty."""
        odd: tuple[Any, ...] = (
            None,
            "ls",
            [],
            {},
            {"b64": "bHM="},
            [1],
            [None],
            ["ls", ["-l"]],
            ["ls", True],
            ["ls", {"b64": "!"}],
            ["ls", "a\0b"],
            ["ls", {"b64": "AA=="}],
            ["ls", "\udcff"],
            [""],
            ["", "a"],
        )
        for argv in odd:
            self.refused("argv", argv=argv)
        self.assertRaises(InvalidRequest, CommandRequest.decode, {})

    def test_place(self) -> None:
        """The error says which word it is."""
        error = self.assertRaises(InvalidRequest, CommandRequest.decode, {"argv": ["a", "b", 3]})
        self.assertIn("argv[2]", str(error))

    def test_stdin(self) -> None:
        """Whether there is input is true or false."""
        odd: tuple[Any, ...] = (None, 1, 0, "yes", [], {})
        for stdin in odd:
            self.refused("stdin", stdin=stdin)

    def test_timeout(self) -> None:
        """A time-out is a number above 0 that time can be measured by."""
        odd: tuple[Any, ...] = (0, -1, -0.5, True, "5", [], {}, TEN_YEARS + 1, 10**400, math.inf)
        for timeout in odd:
            self.refused("timeout", timeout=timeout)
        for fit in (None, 1, 0.001, TEN_YEARS):
            self.assertEqual(CommandRequest.decode({"argv": ["a"], "timeout": fit}).timeout, fit)
        # JSON has no infinity, but numbers that are read as one.
        self.refused("timeout", **decode_json(b'{"timeout":1e999}'))

    def test_cwd(self) -> None:
        """The folder is a byte string without NUL."""
        odd: tuple[Any, ...] = (1, True, [], {}, "a\0", "\udcff")
        for cwd in odd:
            self.refused("cwd", cwd=cwd)

    def test_env(self) -> None:
        """The environment is a list of pairs of byte strings, the names without ``=``."""
        odd: tuple[Any, ...] = (
            None,
            {},
            {"A": "1"},
            "A=1",
            ["A=1"],
            [["A"]],
            [["A", "1", "2"]],
            [["A", 1]],
            [[["A"], "1"]],
            [["", "1"]],
            [["A=B", "1"]],
            [["A\0", "1"]],
            [["A", "1\0"]],
            [{"A": "1", "B": "2"}],
        )
        for env in odd:
            self.refused("env", env=env)

    def test_unknownFields(self) -> None:
        """What is not known is ignored."""
        self.assertEqual(
            CommandRequest.decode({"argv": ["a"], "new": {"x": []}}), CommandRequest((b"a",))
        )

    @settings(deadline=None)
    @given(st.dictionaries(st.sampled_from(["argv", "stdin", "timeout", "cwd", "env"]), anything))
    def test_anything(self, request: dict[str, Any]) -> None:
        """Whatever comes is a request, or the fault of the channel alone."""
        for whole in (request, {"argv": ["a"], **request}):
            try:
                asked = CommandRequest.decode(whole)
            except InvalidRequest:
                continue
            self.assertTrue(all(isinstance(word, bytes) for word in asked.argv))


class ResultTests(SynchronousTestCase):
    """How a command ended, as CLOSE has it."""

    @settings(deadline=None)
    @given(
        st.builds(
            CommandResult,
            st.integers(0, 255),
            st.none(),
            st.booleans(),
            st.booleans(),
        )
        | st.builds(
            CommandResult,
            st.none(),
            st.sampled_from(["KILL", "TERM", "USR1", "RTMIN+3", "RTMIN-2"]),
            st.booleans(),
            st.booleans(),
        )
        | st.builds(
            CommandResult,
            code=st.sampled_from(["lost", "not-found"]),
            message=st.text(max_size=MAX_REASON),
        )
    )
    def test_roundTrip(self, result: CommandResult) -> None:
        """A result is read as it was written."""
        self.assertEqual(CommandResult.decode(decode_json(encode_json(result.encode()))), result)

    def test_example(self) -> None:
        """What is sent, written out; what is not so is left out."""
        self.assertEqual(CommandResult(3).encode(), {"exit_status": 3})
        self.assertEqual(
            CommandResult(signal="KILL", timed_out=True, truncated=True).encode(),
            {"signal": "KILL", "timed_out": True, "truncated": True},
        )
        self.assertEqual(
            CommandResult(code="lost", message="gone").encode(),
            {"error": {"code": "lost", "message": "gone"}},
        )

    def test_none(self) -> None:
        """An end without a status, a signal or an error, or with what is none, is no result."""
        statuses: tuple[Any, ...] = (True, -1, 256, 10**400, 0.0, "0", [], {})
        signals: tuple[Any, ...] = (
            9,
            True,
            "",
            "kill",
            "A B",
            "KILL\n",
            "\x1b[2J",
            "X" * 17,
            [],
            {},
        )
        odd: tuple[dict[str, Any], ...] = (
            {},
            {"timed_out": True},
            {"exit_status": None},
            *({"exit_status": value} for value in statuses),
            *({"signal": value} for value in signals),
            *({"error": value} for value in ("lost", 1, True, [], ["lost"])),
            {"exit_status": 0, "signal": []},
            {"exit_status": 0, "error": "lost"},
            {"exit_status": "0", "signal": "KILL"},
        )
        for result in odd:
            self.assertRaises(RemoteProtocolError, CommandResult.decode, result)

    def test_flags(self) -> None:
        """Only ``true`` is true."""
        values: tuple[Any, ...] = (1, "true", [1], {}, None, False)
        for odd in values:
            result = CommandResult.decode({"exit_status": 0, "timed_out": odd, "truncated": odd})
            self.assertEqual(result, CommandResult(0))

    def test_error(self) -> None:
        """An error that does not say which is the server's own."""
        self.assertEqual(CommandResult.decode({"error": {}}), CommandResult(code="internal"))

    @settings(deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from(["exit_status", "signal", "error", "timed_out", "truncated"]), anything
        )
    )
    def test_anything(self, result: dict[str, Any]) -> None:
        """Whatever comes is a result of the right types, or refused as the peer's."""
        try:
            read = CommandResult.decode(result)
        except RemoteProtocolError:
            return
        self.assertIsInstance(read.exit_status, int | None)
        self.assertIsInstance(read.signal, str | None)
        self.assertIsInstance(read.code, str | None)
        self.assertIsInstance(read.message, str)
