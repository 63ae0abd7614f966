"""Signals by name, and what the host process does with the ones it gets itself."""

from __future__ import annotations

import signal
from types import FrameType

__all__ = ["install_signals", "signal_name", "signal_number"]

# Python handlers, because exec sets a caught signal back to its default in the child, while an
# ignored one stays ignored.  PIPE is here since Python ignores it, CHLD to wake the event loop.
_CAUGHT = ("HUP", "INT", "QUIT", "TERM", "PIPE", "USR1", "USR2", "ALRM", "CHLD")


def signal_name(number: int) -> str:
    """Name a signal without its SIG; a real-time one is ``RTMIN+n``."""
    if signal.SIGRTMIN < number <= signal.SIGRTMAX:
        return f"RTMIN+{number - signal.SIGRTMIN}"
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:  # the two that the C library keeps for itself
        return f"RTMIN{number - signal.SIGRTMIN:+d}"


def signal_number(name: str) -> int:
    """Find a signal by the name that :func:`signal_name` gives.

    :raises ValueError: there is no such signal.
    """
    if name.startswith("RTMIN+") and name[6:].isdecimal():
        number = signal.SIGRTMIN + int(name[6:])
        if number <= signal.SIGRTMAX:
            return number
    elif (found := signal.Signals.__members__.get(f"SIG{name}")) is not None:
        return int(found)
    raise ValueError(f"no signal is called {name[:32]!r}; expected one like 'TERM' or 'RTMIN+1'")


def install_signals(wake_descriptor: int) -> list[int]:
    """Give every signal the disposition and the mask that commands are to start with.

    Whoever started the server may have ignored or blocked some (``nohup``, a shell's ``&``); a
    command must not inherit that.

    :param wake_descriptor: a non-blocking descriptor that gets a byte for each caught signal.
    :return: a list that SIGTERM is appended to when it arrives.
    """
    terminations: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            terminations.append(number)

    signal.set_wakeup_fd(wake_descriptor, warn_on_full_buffer=False)
    caught = {signal_number(name) for name in _CAUGHT}
    for number in signal.valid_signals():
        if number in caught:
            signal.signal(number, note)
        elif signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return terminations
