"""Look for the format that makes ``strftime`` answer with the most, of all of one to three bytes.

Run as ``python -m tests.campaigns.amplification``; it takes two minutes.  The suite has a short
form of it in ``tests/test_timetext.py``.
"""

from __future__ import annotations

import itertools
import sys
import time
from datetime import UTC, datetime

from sockproto.services.timetext import answer_format

HEADERS = 28


def timed(request: bytes, now: datetime) -> tuple[bytes | None, float]:
    """An answer, and the processor time that it took."""
    began = time.thread_time()
    answer = answer_format(request, now)
    return answer, time.thread_time() - began


def main() -> int:
    """Search, and print what was found; the status is 1 where it is too much."""
    now = datetime(2026, 9, 30, 12, 34, 56, tzinfo=UTC)
    worst, format_of_worst, answered, slowest = 0.0, b"", 0, 0.0
    for size in range(4):
        for codes in itertools.product(range(256), repeat=size):
            request = bytes(codes)
            answer, took = timed(request, now)
            if took > slowest:
                # Once is no measure on a machine that does other things too.
                slowest = max(slowest, min(timed(request, now)[1] for _ in range(5)))
            if answer is not None:
                answered += 1
                ratio = (len(answer) + HEADERS) / (len(request) + HEADERS)
                if ratio > worst:
                    worst, format_of_worst = ratio, request
    print(f"{answered} formats of up to 3 bytes are answered")
    print(f"the most is {worst:.3f} times the request, headers included, for {format_of_worst!r}")
    print(f"the slowest answer took {slowest * 1000:.3f} ms of processor time")
    return 0 if worst <= 3 else 1


if __name__ == "__main__":
    sys.exit(main())
