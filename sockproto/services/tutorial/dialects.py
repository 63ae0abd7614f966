"""The tutorial dialects by the names of their services, for a server to listen with."""

from __future__ import annotations

from typing import Any

from sockproto.connections import ConnectionCap
from sockproto.interfaces import IChannelService
from sockproto.limits import Limits
from sockproto.services.open import OpenFactory
from sockproto.services.tutorial.commands import (
    CommandFactory,
    CommandInt32Factory,
    CommandLengthFactory,
    CommandReadyFactory,
)
from sockproto.services.tutorial.download import DownloadFactory
from sockproto.services.tutorial.folder import Folder
from sockproto.services.tutorial.login import UpperHmacFactory
from sockproto.services.tutorial.messages import (
    MessageInt32Factory,
    MessageReadyFactory,
    UpperInt32Factory,
)
from sockproto.services.tutorial.settings import TutorialSettings
from sockproto.services.tutorial.upload import UploadJsonFactory

__all__ = ["Dialects"]

_COMMANDS: tuple[type[CommandFactory], ...] = (
    CommandInt32Factory,
    CommandLengthFactory,
    CommandReadyFactory,
)
_MESSAGES = (MessageReadyFactory, MessageInt32Factory, UpperInt32Factory)
_FILES = (UploadJsonFactory, DownloadFactory)


class Dialects:
    """Makes the factories of the dialects; those of the files share one open folder.

    :param reactor: the reactor.
    :param settings: ``[tutorial]``.
    :param commands: the agent's service ``command``.
    :param limits: what holds for connections.
    """

    def __init__(
        self, reactor: Any, settings: TutorialSettings, commands: IChannelService, limits: Limits
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._commands = commands
        self._limits = limits
        self._folder: Folder | None = None

    def factory(self, service: str, cap: ConnectionCap | None) -> OpenFactory:
        """The factory of a dialect.

        :param service: one of :data:`~sockproto.services.tutorial.settings.DIALECTS`.
        :param cap: ``None`` where somebody else counts the connections.
        :raises ValueError: there is no such dialect, or ``[tutorial]`` lacks what it needs.
        :raises OSError: the folder cannot be had.
        """
        reactor, limits = self._reactor, self._limits
        for command in _COMMANDS:
            if command.service == service:
                return command(reactor, self._settings, self._commands, limits, cap)
        for message in _MESSAGES:
            if message.service == service:
                return message(reactor, limits, cap)
        for file in _FILES:
            if file.service == service:
                return file(reactor, self._opened(service), limits, cap)
        if service == UpperHmacFactory.service:
            return UpperHmacFactory(reactor, self._settings, limits, cap)
        raise ValueError(f"there is no tutorial dialect {service!a}")

    def close(self) -> None:
        """Close the folder; what is under way in it comes to nothing."""
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.close()

    def _opened(self, service: str) -> Folder:
        settings = self._settings
        if self._folder is None:
            if settings.folder is None:
                raise ValueError(f"{service} needs folder in [tutorial]")
            self._folder = Folder(
                settings.folder,
                file_size=settings.file_size,
                folder_size=settings.folder_size,
                files=settings.files,
            )
        return self._folder
