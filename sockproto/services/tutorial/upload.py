"""``tutorial-upload-json``: a file behind a JSON header that says its size, name and digest."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from sockproto.auth.transport import describe
from sockproto.connections import ConnectionCap
from sockproto.errors import RemoteProtocolError
from sockproto.limits import Limits
from sockproto.logs import Logger
from sockproto.services.tutorial.dialect import DialectFactory, DialectProtocol
from sockproto.services.tutorial.folder import Folder, Unavailable, Upload
from sockproto.services.tutorial.reading import Exactly, Piecewise, int32

__all__ = ["UploadJsonFactory", "in_thread"]

#: A path of 4,096 characters, as the longest that Linux takes, with each escaped in JSON.
_MAX_HEADER = 32 * 1024
_MD5 = re.compile(r"[0-9A-Fa-f]{32}", re.ASCII)

Aside = Callable[[Callable[[], None]], "Deferred[None]"]


def in_thread(reactor: Any) -> Aside:
    """A way to have something done that takes its time: in a thread of the reactor's."""
    return lambda work: deferToThreadPool(reactor, reactor.getThreadPool(), work)


class UploadJsonProtocol(DialectProtocol):
    """::

        client: int32 header length
        client: the header, {"file_size": n, "file_name": "...", "md5": "..."}
        client: n bytes

    and so on.  There is no answer.  What does not become a file ends the connection.
    """

    _log = Logger()
    factory: UploadJsonFactory
    _upload: Upload | None = None

    def begin(self) -> None:
        """Expect the length of a header."""
        self.expect(Exactly(4), self._lengthReceived)

    def _lengthReceived(self, data: bytes) -> None:
        length = int32(data, _MAX_HEADER)
        if not length:
            raise RemoteProtocolError("a header of no length")
        self.expect(Exactly(length), self._headerReceived)

    def _headerReceived(self, data: bytes) -> None:
        name, size, md5 = _header(data)
        try:
            self._upload = self.factory.folder.upload(name, size, md5)
        except Unavailable as error:
            raise RemoteProtocolError(f"{error}: {name}") from None
        if size:
            self.expect(Piecewise(size, self._pieceReceived), lambda _: self._complete())
        else:
            self._complete()

    def _pieceReceived(self, data: bytes) -> None:
        assert self._upload is not None
        try:
            self._upload.write(data)
        except OSError as error:
            raise RemoteProtocolError(f"cannot be stored: {error.strerror}") from None

    def _complete(self) -> None:
        """All is there: from here on it is stored, or not, even if the client leaves."""
        upload, self._upload = self._upload, None
        assert upload is not None
        if not upload.is_right:
            upload.drop()
            raise RemoteProtocolError(f"the digest does not agree: {upload.name}")
        storing = self.factory.aside(upload.publish)
        storing.addBoth(self._stored, upload)
        storing.addErrback(lambda failure: self._log.failure("storing failed", failure))

    def _stored(self, result: Failure | None, upload: Upload) -> None:
        upload.drop()
        if isinstance(result, Failure):
            result.trap(OSError)
            self.broken(f"cannot be stored: {result.getErrorMessage()}: {upload.name}")
            return
        self._log.info(
            "{service}: {peer} stored {name}, {size} bytes",
            service=self.factory.service,
            peer=describe(self.address),
            name=upload.name,
            size=upload.size,
        )
        if not self.isClosing:
            self.begin()

    def incomplete(self) -> None:
        """The client has gone in the middle of a file."""
        self._missed()

    def gone(self) -> None:
        """Leave nothing of a file that is not whole."""
        self._missed()

    def _missed(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.drop()
            self.factory.complain(self.address, f"not all of it came: {upload.name}")


class UploadJsonFactory(DialectFactory):
    """``tutorial-upload-json``.

    :param clock: the reactor.
    :param folder: where to.
    :param limits: the idle time among them.
    :param cap: how many connections there may be.
    :param aside: does what waits for the disk without the reactor waiting; such as
        :func:`in_thread` makes.
    """

    protocol = UploadJsonProtocol
    service = "tutorial-upload-json"

    def __init__(
        self,
        clock: IReactorTime,
        folder: Folder,
        limits: Limits | None = None,
        cap: ConnectionCap | None = None,
        *,
        aside: Aside | None = None,
    ) -> None:
        super().__init__(clock, limits, cap)
        self.folder = folder
        self.aside = in_thread(clock) if aside is None else aside


def _header(data: bytes) -> tuple[str, int, str]:
    """The name, size and digest of a JSON header.

    :raises RemoteProtocolError: it does not say them.
    """
    try:
        header = json.loads(data)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("expected a JSON header") from None
    if not isinstance(header, dict):
        raise RemoteProtocolError("expected a JSON object for a header")
    name, size, md5 = map(header.get, ("file_name", "file_size", "md5"))
    if not isinstance(name, str):
        raise RemoteProtocolError("the header's file_name is no text")
    if type(size) is not int or size < 0:
        raise RemoteProtocolError("the header's file_size is no size")
    if not isinstance(md5, str) or not _MD5.fullmatch(md5):
        raise RemoteProtocolError("the header's md5 is not 32 hex digits")
    return name, size, md5
