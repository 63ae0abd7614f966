"""Ctrl-C, held back until the program waits: it never tears something in two that is half done."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, Self, TypeVar

__all__ = ["Interrupt"]

_T = TypeVar("_T")


class Interrupt:
    """While this context is entered, KeyboardInterrupt comes from :meth:`waiting` alone.

    Where SIGINT is ignored, as for a job in the background, or is caught by a program that embeds
    this one, that is left as it is.
    """

    def __init__(self) -> None:
        self._came = False
        self._waits = False
        self._previous: Any = None

    def __enter__(self) -> Self:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            try:
                self._previous = signal.signal(signal.SIGINT, self._note)
            except ValueError:
                pass  # not in the main thread, where no signal comes
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _note(self, *_: object) -> None:
        self._came = True
        if self._waits:
            raise KeyboardInterrupt

    def waiting(self, call: Callable[..., _T], *args: Any) -> _T:
        """Do something that may take long, and may be given up.

        :raises KeyboardInterrupt: Ctrl-C came, now or since the last one was told of.
        """
        self._waits = True
        try:
            if self._came:
                raise KeyboardInterrupt
            return call(*args)
        except KeyboardInterrupt:
            self._came = False
            raise
        finally:
            self._waits = False
