"""Does a byte of a large frame cost what a byte of a small one costs?

Feeds `FrameDecoder` frames of 64 KiB and one of 64 MiB in portions of 1460 bytes, from memory and
from a socket, and prints the processor time for each byte and the ratio of the two. The system
hands a new buffer of 64 MiB out page by page; what that alone costs is printed last, since no
reader of such a frame can do without.

Run: ``python bench/frame_linearity.py [rounds]``
"""

from __future__ import annotations

import resource
import socket
import sys
from collections.abc import Iterator
from statistics import median
from threading import Thread

from sockproto.wire.frames import FrameDecoder, encode_frame

SMALL, LARGE, PORTION = 2**16, 2**26, 1460
#: Seconds in the program and in the system.
Times = tuple[float, float]


def processor_time() -> Times:
    """What this process has used so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime


def from_memory(stream: bytes, times: int) -> Iterator[bytes]:
    """The stream in portions, repeated."""
    for _ in range(times):
        for start in range(0, len(stream), PORTION):
            yield stream[start : start + PORTION]


def from_socket(stream: bytes, times: int) -> Iterator[bytes]:
    """The same through a socket. What the sender uses counts too, alike for either size."""
    ours, theirs = socket.socketpair()

    def send() -> None:
        for _ in range(times):
            for start in range(0, len(stream), SMALL):
                theirs.sendall(stream[start : start + SMALL])

    sender = Thread(target=send)
    with ours, theirs:
        sender.start()
        left = len(stream) * times
        while left:
            data = ours.recv(PORTION)
            left -= len(data)
            yield data
        sender.join()


def cost(reads: Iterator[bytes], frames: int) -> Times:
    """Take frames out of reads.

    :return: the processor time for each byte of `LARGE`, in ns.
    """
    user, system = processor_time()
    decoder = FrameDecoder(LARGE)
    for read in reads:
        decoder.feed(read)
        while decoder.next_frame() is not None:
            frames -= 1
    after = processor_time()
    if frames:
        raise AssertionError(f"{frames} frames have not come")
    return (after[0] - user) / LARGE * 1e9, (after[1] - system) / LARGE * 1e9


def main(rounds: int) -> None:
    """Print the table."""
    print(f"frames in portions of {PORTION} bytes; ns of processor time a byte; {rounds} rounds")
    streams = {size: encode_frame(bytes(size)) for size in (SMALL, LARGE)}
    for source in (from_memory, from_socket):
        taken: dict[int, list[Times]] = {size: [] for size in streams}
        for _ in range(rounds + 1):  # the first is a warm-up
            for size, stream in streams.items():
                count = LARGE // size
                taken[size].append(cost(source(stream, count), count))
        program: dict[int, float] = {}
        both: dict[int, float] = {}
        for size, times in taken.items():
            program[size] = median(user for user, _ in times[1:])
            both[size] = median(user + system for user, system in times[1:])
            print(
                f"{source.__name__:12} {size >> 10:6} KiB  {both[size]:6.3f}"
                f"  (in the program {program[size]:.3f})"
            )
        print(
            f"{source.__name__:12}      ratio  {both[LARGE] / both[SMALL]:6.3f}"
            f"  (in the program {program[LARGE] / program[SMALL]:.3f})"
        )
    filling = []
    for _ in range(rounds):
        before = sum(processor_time())
        bytearray(b"x") * LARGE
        filling.append((sum(processor_time()) - before) / LARGE * 1e9)
    print(f"to fill a new buffer of {LARGE >> 10} KiB, nothing else: {median(filling):.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
