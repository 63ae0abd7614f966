"""``tutorial-upper-hmac``: the shared-secret login of the tutorials, HMAC-MD5, for them alone.

It proves little: the server does not prove anything, nothing after it is protected, and MD5 is out
of use.  The login of sockproto shares nothing with this: no secret, no code.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from sockproto.connections import ConnectionCap
from sockproto.limits import Limits
from sockproto.logs import Logger
from sockproto.services.tutorial.dialect import DialectFactory
from sockproto.services.tutorial.messages import UpperInt32Protocol
from sockproto.services.tutorial.reading import Exactly
from sockproto.services.tutorial.settings import TutorialSettings

__all__ = ["UpperHmacFactory"]

_CHALLENGE = 32
_DIGEST = 16


class UpperHmacProtocol(UpperInt32Protocol):
    """::

        server: 32 random bytes
        client: the HMAC-MD5 of them under the secret, 16 bytes

    and then as ``tutorial-upper-int32``; a wrong answer ends the connection.
    """

    factory: UpperHmacFactory
    _deadline: IDelayedCall | None = None

    def begin(self) -> None:
        """Ask for a proof."""
        factory = self.factory
        challenge = factory.random(_CHALLENGE)
        self._deadline = factory.clock.callLater(
            factory.limits.login_seconds, self.broken, "took too long to log in"
        )
        self.transport.write(challenge)
        self.expect(Exactly(_DIGEST), lambda answer: self._answerReceived(challenge, answer))

    def _answerReceived(self, challenge: bytes, answer: bytes) -> None:
        self._stopDeadline()
        if self.factory.proves(challenge, answer):
            self.expectHeader()
        else:
            self.broken("does not know the secret")

    def _stopDeadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    def gone(self) -> None:
        """Nothing is waited for any longer."""
        self._stopDeadline()
        super().gone()


class UpperHmacFactory(DialectFactory):
    """``tutorial-upper-hmac``.

    :param clock: the reactor.
    :param settings: ``[tutorial]``, with a secret.
    :param limits: the time for the login among them.
    :param cap: how many connections there may be.
    :param random: gives so many random bytes.
    :raises ValueError: there is no secret.
    """

    _log = Logger()
    protocol = UpperHmacProtocol
    service = "tutorial-upper-hmac"

    def __init__(
        self,
        clock: IReactorTime,
        settings: TutorialSettings,
        limits: Limits | None = None,
        cap: ConnectionCap | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        super().__init__(clock, limits, cap)
        if not settings.secret:
            raise ValueError("tutorial-upper-hmac needs secret in [tutorial]")
        self._secret = settings.secret.encode()
        self.random = random

    def startFactory(self) -> None:
        """It is listened on: warn of what this is."""
        self._log.warn(
            "{service} logs in by HMAC-MD5, which is for learning: it protects nothing, and "
            "whatever it guards here is open to this machine's users",
            service=self.service,
        )

    def proves(self, challenge: bytes, answer: bytes) -> bool:
        """Whether an answer shows that its sender knows the secret; in constant time."""
        return hmac.compare_digest(hmac.digest(self._secret, challenge, "md5"), answer)
