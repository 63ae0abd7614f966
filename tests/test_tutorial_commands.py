"""Tests of the tutorial dialects that run commands."""

import os
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sockproto.interfaces import IChannel
from sockproto.limits import Limits
from sockproto.services.command.rule import CommandRule
from sockproto.services.command.rules import CommandRules
from sockproto.services.command.service import CommandService
from sockproto.services.tutorial.commands import (
    CommandFactory,
    CommandInt32Factory,
    CommandLengthFactory,
    CommandReadyFactory,
)
from sockproto.services.tutorial.running import (
    CollectingChannel,
    Output,
    principal_of,
    words_of,
)
from sockproto.services.tutorial.settings import TutorialSettings
from tests.commandfakes import FakeHost, PollingReactor
from tests.tutorials import LIMITS, PEER, Connection, DialectCase, FakeCommands

REFUSED = b"'no' is not allowed"
ALL = (CommandInt32Factory, CommandLengthFactory, CommandReadyFactory)


class CommandCase(DialectCase):
    """A test of the command dialects."""

    def client(self, factory: type[CommandFactory], **settings: Any) -> Connection:
        """A client of a dialect."""
        return self.connect(
            factory(self.clock, TutorialSettings(**settings), self.commands, LIMITS)
        )


class Int32Tests(CommandCase):
    """Tests of tutorial-command-int32."""

    def test_output(self) -> None:
        """The output comes behind its length, little-endian."""
        client = self.client(CommandInt32Factory)
        self.assertEqual(client.send(b"ls").received(), b"\x04\0\0\0a\nb\n")
        self.assertEqual(client.send(b"ls\n").received(), b"\x04\0\0\0a\nb\n")

    def test_errors(self) -> None:
        """If there is any stderr it is the output."""
        self.commands.outputs[b"both"] = (b"out", b"err!")
        self.assertEqual(self.client(CommandInt32Factory).send(b"both").received()[4:], b"err!")

    def test_nothing(self) -> None:
        """No output is a length of nothing."""
        self.assertEqual(self.client(CommandInt32Factory).send(b"true").received(), bytes(4))

    def test_refused(self) -> None:
        """The message is the output, so that the client does not hang."""
        received = self.client(CommandInt32Factory).send(b"no such").received()
        self.assertEqual(received, len(REFUSED).to_bytes(4, "little") + REFUSED)


class LengthTests(CommandCase):
    """Tests of tutorial-command-length."""

    def test_output(self) -> None:
        """The length comes alone, and the output only after the gap."""
        client = self.client(CommandLengthFactory)
        self.assertTrue(client.noDelay)
        self.assertEqual(client.send(b"ls").received(), b"4")
        self.clock.advance(0.049)
        self.assertEqual(client.received(), b"")
        self.clock.advance(0.002)
        self.assertEqual(client.received(), b"a\nb\n")
        self.assertEqual(client.send(b"ls").received(), b"4")

    def test_gap(self) -> None:
        """The gap is a setting."""
        client = self.client(CommandLengthFactory, gap=2.0)
        client.send(b"ls").received()
        self.clock.advance(1.9)
        self.assertEqual(client.received(), b"")
        self.clock.advance(0.1)
        self.assertEqual(client.received(), b"a\nb\n")

    def test_stdoutOnly(self) -> None:
        """What goes to stderr is not sent."""
        self.commands.outputs[b"both"] = (b"out", b"errors")
        self.commands.outputs[b"err"] = (b"", b"errors")
        client = self.client(CommandLengthFactory)
        self.assertEqual(client.send(b"both").received(), b"3")
        self.clock.advance(0.05)
        self.assertEqual(client.received(), b"out")
        self.assertEqual(client.send(b"err").received(), b"19")

    def test_nothing(self) -> None:
        """No output is a sentence, sic."""
        client = self.client(CommandLengthFactory)
        self.assertEqual(client.send(b"true").received(), b"19")
        self.clock.advance(0.05)
        self.assertEqual(client.received(), b"cmd hs no output...")

    def test_refused(self) -> None:
        """The message is the output."""
        client = self.client(CommandLengthFactory)
        self.assertEqual(client.send(b"no").received(), b"%d" % len(REFUSED))
        self.clock.advance(0.05)
        self.assertEqual(client.received(), REFUSED)

    def test_goneInTheGap(self) -> None:
        """A client that goes in the gap leaves no timer behind."""
        client = self.client(CommandLengthFactory)
        client.send(b"ls")
        client.lose()
        self.connections.remove(client)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ReadyTests(CommandCase):
    """Tests of tutorial-command-ready."""

    def test_output(self) -> None:
        """The output comes once the client has said recv_ready, in however many pieces."""
        client = self.client(CommandReadyFactory)
        self.assertEqual(client.send(b"ls").received(), b"4")
        client.send(*[bytes([one]) for one in b"recv_read"])
        self.assertEqual(client.received(), b"")
        self.assertEqual(client.send(b"y").received(), b"a\nb\n")
        self.assertEqual(client.send(b"ls").received(), b"4")
        self.assertEqual(client.send(b"recv_ready").received(), b"a\nb\n")

    def test_errors(self) -> None:
        """If there is any stderr it is the output."""
        self.commands.outputs[b"both"] = (b"out", b"err!")
        client = self.client(CommandReadyFactory)
        self.assertEqual(client.send(b"both").received(), b"4")
        self.assertEqual(client.send(b"recv_ready").received(), b"err!")

    def test_nothing(self) -> None:
        """No output is 0; the client says recv_ready all the same."""
        client = self.client(CommandReadyFactory)
        self.assertEqual(client.send(b"true").received(), b"0")
        self.assertEqual(client.send(b"recv_ready").received(), b"")
        self.assertEqual(client.send(b"ls").received(), b"4")

    def test_exactly(self) -> None:
        """Anything else than recv_ready ends the connection, at the first byte that differs."""
        client = self.client(CommandReadyFactory)
        client.send(b"ls", b"recv_", b"x")
        self.assertBroken(client, "expected recv_ready")
        self.assertEqual(client.received(), b"4")

    def test_next(self) -> None:
        """What comes with recv_ready is the next command."""
        client = self.client(CommandReadyFactory)
        client.send(b"ls").received()
        self.assertEqual(client.send(b"recv_readyls").received(), b"a\nb\n4")


class CommandLineTests(CommandCase):
    """Tests of what all three take for a command."""

    def ask(self, line: bytes) -> bytes:
        """The answer to a command line."""
        return self.client(CommandInt32Factory).send(line).received()[4:]

    def test_words(self) -> None:
        """The line is parted as a POSIX shell parts words; nothing in it is a shell's."""
        for line, words in (
            (b"ls -l 'a b' c\\ d \"e'f\"", ["ls", "-l", "a b", "c d", "e'f"]),
            (b"ls; rm *&&$(x) `y` |z >w\r\n", ["ls;", "rm", "*&&$(x)", "`y`", "|z", ">w"]),
            (b"echo # no comment", ["echo", "#", "no", "comment"]),
            ("echo 你好".encode(), ["echo", "你好"]),
            (b"echo \xff", ["echo", "\udcff"]),
            (b"x" * 1024, ["x" * 1024]),
        ):
            self.assertEqual(words_of(line), words)

    def test_unfit(self) -> None:
        """What is no command line has a message for its output, of one line."""
        for line, message in (
            (b"\n", b"there is no command"),
            (b"   ", b"there is no command"),
            (b"''", b"there is no command"),
            (b"ls\nls", b"a command is a single line"),
            (b"ls\n\n", b"a command is a single line"),
            (b"ls\rls", b"a command is a single line"),
            (b"echo 'x", b"no closing quotation"),
            (b"echo \\", b"no escaped character"),
            (b"x" * 1025, b"a command line has at most 1024 bytes"),
            (b"x" * 60_000, b"a command line has at most 1024 bytes"),
            (b"ls \0", b"argv[1]: a NUL byte cannot be passed to a program"),
        ):
            self.assertEqual(self.ask(line), message, line)
        self.assertEqual(self.commands.served, [])

    def test_bytes(self) -> None:
        """Words that are not UTF-8 reach the command as they are."""
        self.client(CommandInt32Factory).send(b"run \xff\xfe")
        self.assertEqual(self.commands.served[0].argv, (b"run", b"\xff\xfe"))

    def test_http(self) -> None:
        """A browser, on behalf of some page, gets nothing, and is closed."""
        for factory in ALL:
            for line in (b"GET / HTTP/1.1\r\n\r\n", b"POST /ls HTTP/1.1\r\n\r\nls", b"OPTIONS * "):
                self.events.clear()
                self.clock.advance(61)
                client = self.client(factory)
                client.send(line)
                self.assertEqual(client.received(), b"")
                self.assertBroken(client, "speaks HTTP")
        self.assertEqual(self.commands.served, [])

    def test_encoding(self) -> None:
        """The output is encoded as the client decodes it, and its length counted after that."""
        self.commands.outputs[b"cat"] = ("你好 ÿ\xff".encode() + b"\xff", b"")
        utf8 = "你好 ÿÿ\ufffd".encode()
        for encoding, expected in (("utf-8", utf8), ("gbk", "你好 ???".encode("gbk"))):
            client = self.client(CommandInt32Factory, encoding=encoding)
            received = client.send(b"cat").received()
            self.assertEqual(received, len(expected).to_bytes(4, "little") + expected)


class BusyTests(CommandCase):
    """Tests of clients that do not wait, do not read, or go."""

    def test_pipelined(self) -> None:
        """What comes while a command runs is the next; until it is due nothing more is read."""
        client = self.client(CommandInt32Factory)
        client.send(b"run", b"ls")
        self.assertTrue(client.paused)
        self.assertEqual(client.received(), b"")
        self.commands.served[0].end(b"x")
        self.assertEqual(client.received(), b"\x01\0\0\0x\x04\0\0\0a\nb\n")
        self.assertFalse(client.paused)

    def test_pipelinedTooMuch(self) -> None:
        """Of what comes too early no more is held than it takes to see that it is too long."""
        client = self.client(CommandInt32Factory)
        client.send(b"run", b"y" * 65_536)
        self.assertLessEqual(len(client.protocol._held), 1025)
        self.commands.served[0].end(b"x")
        self.assertIn(b"at most 1024", client.received())

    def test_doesNotRead(self) -> None:
        """While the client does not take its answers it is not listened to."""
        for factory in ALL:
            client = self.client(factory)
            client.protocol.pauseProducing()
            self.assertTrue(client.paused)
            client.protocol.resumeProducing()
            self.assertFalse(client.paused)
            self.assertTrue(client.send(b"ls").received())

    def test_neverReads(self) -> None:
        """A client that never takes its answers is idle."""
        client = self.client(CommandInt32Factory)
        client.protocol.pauseProducing()
        self.clock.pump([30] * 4)
        self.assertTrue(client.aborted)

    def test_silent(self) -> None:
        """A client that says nothing is ended."""
        client = self.client(CommandInt32Factory)
        self.clock.advance(30)
        self.clock.advance(29)
        self.assertTrue(client.isOpen)
        self.clock.advance(1)
        self.assertTrue(client.aborted)

    def test_waits(self) -> None:
        """A client that waits for its command is not idle; afterwards it is."""
        client = self.client(CommandInt32Factory)
        client.send(b"run")
        self.clock.pump([30] * 20)
        self.assertTrue(client.isOpen)
        self.commands.served[0].end(b"x")
        self.assertEqual(client.received(), b"\x01\0\0\0x")
        self.clock.pump([30] * 5)
        self.assertTrue(client.aborted)

    def test_gone(self) -> None:
        """What runs for a client that has gone is told so, and nobody is answered."""
        client = self.client(CommandInt32Factory)
        client.send(b"run")
        client.lose()
        self.connections.remove(client)
        self.assertEqual(self.commands.served[0].said, ["lost"])
        self.commands.served[0].end(b"late")
        self.assertEqual(client.received(), b"")

    def test_halfClosed(self) -> None:
        """A client that has said all still gets its answer, then the end."""
        for factory in ALL[:2]:
            client = self.client(factory)
            client.send(b"run")
            client.protocol.readConnectionLost()
            self.assertTrue(client.isOpen)
            self.commands.served[-1].end(b"x")
            self.clock.advance(0.05)
            self.assertEqual(client.received()[-1:], b"x")
            self.assertTrue(client.closed)

    def test_halfClosedForLong(self) -> None:
        """Who has said all may as well have gone: a command has the idle time, then it is ended."""
        client = self.client(CommandInt32Factory)
        client.send(b"run")
        client.protocol.readConnectionLost()
        self.clock.pump([30] * 4)
        self.assertTrue(client.aborted)

    def test_closeGetsStuck(self) -> None:
        """A closed connection whose client does not read is cut after a while."""
        client = self.client(CommandInt32Factory)
        client.send(b"GET / HTTP/1.1")
        self.assertFalse(client.aborted)
        self.clock.advance(LIMITS.close_seconds)
        self.assertTrue(client.aborted)

    def test_interfaces(self) -> None:
        """A connection is what it says it is."""
        protocol = self.client(CommandInt32Factory).protocol
        verifyObject(IHalfCloseableProtocol, protocol)
        verifyObject(IPushProducer, protocol)

    @given(st.lists(st.binary(max_size=1500), max_size=8), st.sampled_from(ALL))
    def test_fuzz(self, pieces: list[bytes], factory: type[CommandFactory]) -> None:
        """Nothing that is sent makes a connection raise, or hold much."""
        clock = Clock()
        commands = FakeCommands({b"ls": (b"x", b"")})
        client = Connection(factory(clock, TutorialSettings(), commands, LIMITS), clock)
        for piece in pieces:
            if piece and client.isOpen and not client.paused:
                client.send(piece)
                self.assertLessEqual(len(client.protocol._held), 1025)
            for served in commands.served:
                served.end(b"y")
            commands.served.clear()
            clock.advance(0.1)
        client.lose()
        self.assertEqual(clock.getDelayedCalls(), [])


class CollectingChannelTests(SynchronousTestCase):
    """Tests of running a line as the agent runs commands."""

    def setUp(self) -> None:
        self.reactor = PollingReactor()
        self.host = FakeHost()
        self.addCleanup(self.host.closeChildren)
        self.outputs: list[Output] = []
        rules = [
            CommandRule(name="ls", argv=("ls",), allow=("tutorial",), timeout=10.0),
            CommandRule(name="cat", argv=("cat",), allow=("tutorial",), max_output=10),
            CommandRule(name="reboot", argv=("reboot",), allow=("ops",)),
        ]
        self.service = CommandService(
            self.reactor,
            self.host,  # type: ignore[arg-type]
            CommandRules(rules, owner_unrestricted=True),
            Limits(commands=1),
        )

    def run_(self, line: bytes, most: int = 1000) -> CollectingChannel:
        """Run a line."""
        principal = principal_of("tutorial-command-int32", PEER)
        channel = CollectingChannel(self.reactor, principal, most, self.outputs.append)
        channel.run(self.service, line)
        return channel

    def start(self) -> Any:
        """The newest run has started."""
        run = self.host.runs[-1]
        run.observer.started(1)
        return run

    def test_interface(self) -> None:
        """It is a channel."""
        principal = principal_of("tutorial-command-int32", PEER)
        verifyObject(IChannel, CollectingChannel(Clock(), principal, 1, self.outputs.append))

    def test_output(self) -> None:
        """The output of a command is collected, to its end."""
        self.run_(b"ls")
        run = self.start()
        os.write(run.childOutput, b"x" * 10)
        self.reactor.settle()
        os.write(run.childError, b"y")
        run.exit(1)
        self.reactor.settle()
        self.assertEqual(self.outputs, [Output(b"x" * 10, b"y")])
        self.assertEqual(self.service.running, 0)

    def test_asked(self) -> None:
        """A command sees that it is a tutorial's client that asked."""
        self.run_(b"ls")
        env = self.host.runs[0].spec.env
        self.assertEqual(
            [env[name] for name in ("SOCKPROTO_IDENTITY", "REMOTE_USER", "REMOTE_ADDR")],
            ["tutorial", "tutorial", "127.0.0.1"],
        )
        self.assertFalse(self.host.runs[0].spec.stdin)

    def test_rules(self) -> None:
        """What no rule allows to tutorial does not run, whatever owner may do."""
        for line, part in (
            (b"id", "there is no command 'id'"),
            (b"reboot", "not allowed"),
            (b"ls -l", "takes no words"),
        ):
            self.run_(line)
            message = self.outputs.pop().message
            assert message is not None
            self.assertIn(part, message)
            self.assertNotIn("\n", message)
        self.assertEqual(self.host.runs, [])

    def test_limits(self) -> None:
        """The limits of the server hold."""
        self.run_(b"ls")
        self.run_(b"ls")
        self.assertIn("which is the limit", str(self.outputs[0].message))

    def test_timedOut(self) -> None:
        """That its time was up is the output, whatever it had written."""
        self.run_(b"ls")
        run = self.start()
        self.reactor.advance(10)
        self.assertEqual(run.said, ["end"])
        run.exit(None, "TERM")
        self.reactor.settle()
        self.assertEqual(self.outputs, [Output(message="the command was ended: its time was up")])

    def test_notFound(self) -> None:
        """That there is no such program is the output."""
        self.run_(b"ls")
        self.host.runs[0].observer.failed("not-found", "there is no program ls")
        self.assertEqual(self.outputs, [Output(message="there is no program ls")])

    def test_tooMuch(self) -> None:
        """A command that writes too much is ended; what came before is its output."""
        for line, most, kept in ((b"ls", 7, 7), (b"cat", 1000, 10)):
            self.run_(line, most)
            run = self.start()
            os.write(run.childOutput, b"z" * 50)
            self.reactor.settle()
            self.assertEqual(run.said, ["end"])
            run.exit(None, "TERM")
            self.reactor.settle()
            self.assertEqual(self.outputs.pop(), Output(b"z" * kept))

    def test_justEnough(self) -> None:
        """A command that writes as much as it may is not ended."""
        self.run_(b"ls", 7)
        run = self.start()
        os.write(run.childOutput, b"z" * 7)
        self.reactor.settle()
        self.assertEqual(run.said, [])

    def test_lost(self) -> None:
        """What runs for a client that has gone is ended with its tree."""
        channel = self.run_(b"ls")
        run = self.start()
        channel.lose()
        self.assertEqual(run.said, ["end"])
        run.exit(None, "TERM")
        self.reactor.settle()
        self.assertEqual(self.outputs, [])
        self.assertEqual(self.service.running, 0)

    def test_session(self) -> None:
        """Each command line is a session of its own, without a login."""
        one, other = (principal_of("tutorial-command-ready", PEER) for _ in range(2))
        self.assertNotEqual(one.login.session_id, other.login.session_id)
        self.assertEqual((one.identity, one.groups), ("tutorial", ()))
