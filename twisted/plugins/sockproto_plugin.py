"""What sockproto adds to Twisted's own programs; each part is imported only once it is used."""

from __future__ import annotations

from typing import Any

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker
from twisted.internet.interfaces import IStreamServerEndpoint, IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from zope.interface import implementer


@implementer(IPlugin, IStreamServerEndpointStringParser)
class HMACServerEndpointParser:
    """The prefix of ``hmac:hmac_service=NAME:hmac_keyring=FILE:ENDPOINT``.

    Every Twisted program loads this file to find its plugins, so it imports neither the reactor nor
    anything of sockproto: that waits for the first endpoint string that names the prefix.
    """

    prefix = "hmac"

    def parseStreamServer(self, reactor: Any, *args: Any, **kwargs: Any) -> IStreamServerEndpoint:
        """Make the endpoint that wants a login in front of the one described by the rest.

        :param reactor: the reactor to listen with.
        :raises ValueError: the description is not usable.
        """
        from sockproto.auth.endpoints import parseServerEndpoint

        return parseServerEndpoint(reactor, *args, **kwargs)


hmacServerEndpointParser = HMACServerEndpointParser()

sockprotoServiceMaker = ServiceMaker(
    "sockproto",
    "sockproto.tap",
    "An agent that runs commands and moves files after a shared-secret login, and echo and time.",
    "sockproto",
)

uvloopReactor = Reactor(
    "uvloop",
    "sockproto.reactor",
    "TCP and TLS over uvloop's own transports, all else on its loop (wants the package uvloop).",
)
