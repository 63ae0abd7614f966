"""``tutorial-download``: files by name, behind a JSON header."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from sockproto.connections import ConnectionCap
from sockproto.limits import Limits
from sockproto.logs import Logger
from sockproto.services.tutorial.dialect import DialectFactory, DialectProtocol
from sockproto.services.tutorial.folder import Download, Folder, Unavailable
from sockproto.services.tutorial.reading import MAX_READ, OneRead, Word, pack_int32

__all__ = ["DownloadFactory"]


class DownloadProtocol(DialectProtocol):
    """::

        client: a file name, in one send of at most 1024 bytes
        server: int32 header length
        server: the header, {"file_size": n, "file_name": "...", "md5": "..."}
        client: ready
        server: n bytes

    and so on.  A file that cannot be had has the header ``{"error": "..."}``, and the next name may
    follow.
    """

    _log = Logger()
    factory: DownloadFactory
    holds = MAX_READ + 1
    _file: Download | None = None
    _turn: IDelayedCall | None = None
    _sent: int | None = None

    def begin(self) -> None:
        """Expect a file name."""
        self.expect(OneRead(), self._nameReceived)

    def _nameReceived(self, line: bytes) -> None:
        if line.endswith(b"\n"):
            line = line[:-1].removesuffix(b"\r")
        try:
            if len(line) > MAX_READ:
                raise Unavailable(f"a file name has at most {MAX_READ} bytes here")
            name = line.decode()
            self._file = self.factory.folder.download(name)
        except UnicodeDecodeError:
            self._refuse("the name is not UTF-8")
        except Unavailable as error:
            self._refuse(str(error))
        else:
            self._digest()

    def _refuse(self, reason: str) -> None:
        self._sendHeader({"error": reason})
        self.begin()

    def _digest(self) -> None:
        """Digest a piece of the file, and so on in the reactor's next turns."""
        self._turn = None
        assert self._file is not None
        try:
            md5 = self._file.digest()
        except OSError as error:
            self._closeFile()
            self._refuse(f"the file cannot be read: {error.strerror}")
            return
        if md5 is None:
            self._turn = self.factory.clock.callLater(0, self._digest)
            return
        self._sendHeader({"file_size": self._file.size, "file_name": self._file.name, "md5": md5})
        self.expect(Word(b"ready"), lambda _: self._send())

    def _sendHeader(self, header: dict[str, Any]) -> None:
        data = json.dumps(header).encode()
        self.transport.write(pack_int32(len(data)) + data)

    def _send(self) -> None:
        self._sent = 0
        self.drained()

    def drained(self) -> None:
        """Send as much of the file as the transport takes."""
        while self._sent is not None and not self.isFull and not self.isClosing:
            assert self._file is not None
            if self._sent == self._file.size:
                self._closeFile()
                self.begin()
                return
            try:
                piece = self._file.read(self._sent)
            except OSError as error:
                # What was announced cannot be kept: the client sees that by the end.
                self.broken(f"{self._file.name} cannot be read: {error.strerror}")
                return
            self._sent += len(piece)
            self.transport.write(piece)

    def _closeFile(self) -> None:
        self._sent = None
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def gone(self) -> None:
        """Let go of the file."""
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.cancel()
        self._closeFile()


class DownloadFactory(DialectFactory):
    """``tutorial-download``.

    :param clock: the reactor.
    :param folder: where from.
    :param limits: the idle time among them.
    :param cap: how many connections there may be.
    """

    protocol = DownloadProtocol
    service = "tutorial-download"

    def __init__(
        self,
        clock: IReactorTime,
        folder: Folder,
        limits: Limits | None = None,
        cap: ConnectionCap | None = None,
    ) -> None:
        super().__init__(clock, limits, cap)
        self.folder = folder
