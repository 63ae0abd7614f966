"""Tests of `sockproto.wire.frames`."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from io import BytesIO
from struct import pack
from typing import Any, ClassVar

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sockproto.errors import FrameTooLong, LocalProtocolError
from sockproto.wire import frames
from sockproto.wire.frames import LARGEST_LENGTH, FrameDecoder, encode_frame, frame_header

MiB = 2**20


def taken(decoder: FrameDecoder) -> list[bytes]:
    """All the frames that a decoder has."""
    return list(iter(decoder.next_frame, None))


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The data in portions that end at the cuts."""
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    starts = [0, *ends]
    return [data[start:end] for start, end in zip(starts, ends, strict=False)]


class EncodingTests(SynchronousTestCase):
    """`encode_frame` and `frame_header`."""

    def test_frame(self) -> None:
        """A frame is the length as four bytes, big-endian, and the payload."""
        self.assertEqual(encode_frame(b"abc"), b"\0\0\0\3abc")
        self.assertEqual(encode_frame(b""), b"\0\0\0\0")
        self.assertEqual(frame_header(0x01020304), b"\1\2\3\4")
        self.assertEqual(frame_header(LARGEST_LENGTH), b"\xff\xff\xff\xff")

    def test_impossibleLength(self) -> None:
        """A length that the header cannot say is the caller's mistake."""
        for length in (-1, LARGEST_LENGTH + 1):
            self.assertRaises(LocalProtocolError, frame_header, length)


class DecodingTests(SynchronousTestCase):
    """What a `FrameDecoder` gives."""

    @given(
        st.lists(st.binary(max_size=40), max_size=8),
        st.lists(st.integers(0, 400)),
        st.binary(max_size=3),
        st.data(),
    )
    def test_anySplit(
        self, payloads: list[bytes], cuts: list[int], tail: bytes, data: st.DataObject
    ) -> None:
        """Whatever the portions, and whenever frames are asked for, the frames are the same."""
        stream = b"".join(map(encode_frame, payloads)) + tail
        decoder = FrameDecoder(40)
        got: list[bytes] = []
        fed = 0
        for portion in split(stream, cuts):
            decoder.feed(portion)
            fed += len(portion)
            for _ in range(data.draw(st.integers(0, 3))):
                frame = decoder.next_frame()
                if frame is not None:
                    got.append(frame)
            delivered = sum(4 + len(frame) for frame in got)
            self.assertEqual(decoder.pending, fed - delivered)
            self.assertEqual(decoder.unread, stream[delivered:fed])
        got += taken(decoder)
        self.assertEqual(got, payloads)
        self.assertEqual((decoder.unread, decoder.pending), (tail, len(tail)))

    @given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 400)), st.data())
    def test_release(self, payloads: list[bytes], cuts: list[int], data: st.DataObject) -> None:
        """What is released continues the stream where the frames taken ended."""
        stream = b"".join(map(encode_frame, payloads))
        decoder = FrameDecoder(40)
        got: list[bytes] = []
        for portion in split(stream, cuts):
            decoder.feed(portion)
            if data.draw(st.booleans()):
                frame = decoder.next_frame()
                if frame is not None:
                    got.append(frame)
            if data.draw(st.booleans()):
                held = decoder.unread
                buffer, start = decoder.release()
                self.assertEqual(buffer[start:], held)
                self.assertEqual(decoder.pending, 0)
                decoder.feed(buffer, start)
        self.assertEqual(got + taken(decoder), payloads)

    def test_oneByteAtATime(self) -> None:
        """Frames arrive whole byte by byte, the moment their last byte does."""
        decoder = FrameDecoder(300)
        stream = encode_frame(b"") + encode_frame(b"x" * 257)
        got = []
        for index in range(len(stream)):
            decoder.feed(stream[index : index + 1])
            got += [(index, frame) for frame in taken(decoder)]
        self.assertEqual(got, [(3, b""), (len(stream) - 1, b"x" * 257)])

    def test_mutableInput(self) -> None:
        """What was fed may be changed afterwards."""
        decoder = FrameDecoder(10)
        data = bytearray(encode_frame(b"abc"))
        decoder.feed(data)  # type: ignore[arg-type]
        data[4:] = b"xyz"
        self.assertEqual(taken(decoder), [b"abc"])

    def test_unreadReplaced(self) -> None:
        """To set ``unread`` replaces everything that is held, a frame half arrived included."""
        decoder = FrameDecoder(10)
        decoder.feed(b"\0\0\0\5ab")
        self.assertIsNone(decoder.next_frame())
        decoder.feed(b"c")
        decoder.unread = encode_frame(b"new") + b"\0"
        self.assertEqual(taken(decoder), [b"new"])
        decoder.feed(b"\0\0\1!")
        self.assertEqual(taken(decoder), [b"!"])


class LimitTests(SynchronousTestCase):
    """The limit, and what a peer can make a decoder hold."""

    def test_limit(self) -> None:
        """A length of the limit is accepted, one more is not."""
        decoder = FrameDecoder(10)
        decoder.feed(encode_frame(b"x" * 10) + pack("!I", 11))
        self.assertEqual(decoder.next_frame(), b"x" * 10)
        failure = self.assertRaises(FrameTooLong, decoder.next_frame)
        self.assertEqual((failure.length, failure.limit, failure.code), (11, 10, "too-long"))

    def test_refusedAtTheHeader(self) -> None:
        """The header's last byte is enough, wherever the cuts are."""
        for length in (11, 2**31, LARGEST_LENGTH):
            for portions in ([pack("!I", length)], [bytes([b]) for b in pack("!I", length)]):
                decoder = FrameDecoder(10)
                for portion in portions[:-1]:
                    decoder.feed(portion)
                    self.assertIsNone(decoder.next_frame())
                decoder.feed(portions[-1])
                self.assertRaises(FrameTooLong, decoder.next_frame)

    def test_nothingAfterTheRefusal(self) -> None:
        """After it no byte is kept and no frame comes, also if the limit is raised."""
        decoder = FrameDecoder(10)
        decoder.feed(pack("!I", 11))
        self.assertRaises(FrameTooLong, decoder.next_frame)
        decoder.feed(b"x" * 11 + encode_frame(b"a"))
        decoder.limit = 100
        self.assertEqual(decoder.pending, 4)
        self.assertRaises(FrameTooLong, decoder.next_frame)

    def test_limitOfZero(self) -> None:
        """With a limit of 0 empty frames still pass."""
        decoder = FrameDecoder(0)
        decoder.feed(encode_frame(b"") * 2 + encode_frame(b"x"))
        self.assertEqual([decoder.next_frame(), decoder.next_frame()], [b"", b""])
        self.assertRaises(FrameTooLong, decoder.next_frame)

    def test_limitChanged(self) -> None:
        """A changed limit holds from the next header on, not for a body that is arriving."""
        decoder = FrameDecoder(10)
        decoder.feed(encode_frame(b"x" * 10)[:-1])
        self.assertIsNone(decoder.next_frame())
        decoder.limit = 3
        decoder.feed(b"x" + encode_frame(b"abc") + encode_frame(b"abcd"))
        self.assertEqual(decoder.next_frame(), b"x" * 10)
        self.assertEqual(decoder.next_frame(), b"abc")
        self.assertRaises(FrameTooLong, decoder.next_frame)

    def peak(self, decoder: FrameDecoder, portions: Iterable[bytes]) -> int:
        """How much memory the decoder came to hold, in bytes."""
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for portion in portions:
                decoder.feed(portion)
                decoder.next_frame()
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()

    def test_announcedLengthCostsNothing(self) -> None:
        """A header that announces 4 GiB within the limit reserves nothing."""
        decoder = FrameDecoder(LARGEST_LENGTH)
        peak = self.peak(decoder, [pack("!I", LARGEST_LENGTH) + b"x"])
        self.assertLess(peak, 4096)

    def test_memoryOfATrickle(self) -> None:
        """A frame that comes byte by byte takes little more memory than its size."""
        size = MiB // 4
        portions = [b"a", b"b"]
        decoder = FrameDecoder(size)
        decoder.feed(pack("!I", size))
        self.assertLess(self.peak(decoder, (portions[n % 2] for n in range(size))), size * 1.25)

    def test_memoryOfAPausedTrickle(self) -> None:
        """The same where nobody takes the frames meanwhile."""
        decoder = FrameDecoder(10)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(MiB // 4):
            decoder.feed(b"\0")
        self.assertLess(tracemalloc.get_traced_memory()[1] - before, MiB * 1.25 / 4)
        self.assertEqual(taken(decoder), [b""] * (MiB // 16))

    def test_partOfALargeRead(self) -> None:
        """The short rest of a large read does not keep all of it."""
        decoder = FrameDecoder(100)
        for rest in (b"\0", b"\0\0\0\5a"):
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            decoder.unread = b""
            decoder.feed(encode_frame(b"x" * 60) * 1000 + rest)
            taken(decoder)
            held = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            self.assertLess(held, 2048)

    def test_endOfALargeRead(self) -> None:
        """The same where a read is fed from near its end on, and nothing is taken."""
        decoder = FrameDecoder(100)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before = tracemalloc.get_traced_memory()[0]
        decoder.feed(bytes(65536), 65000)
        self.assertLess(tracemalloc.get_traced_memory()[0] - before, 2048)
        self.assertEqual(decoder.pending, 536)


class CountingBytesIO(BytesIO):
    """Counts the bytes copied into buffers."""

    copied: ClassVar[int] = 0

    def write(self, data: Any) -> int:
        type(self).copied += len(data)
        return super().write(data)


class LinearityTests(SynchronousTestCase):
    """The cost of a byte does not depend on how much came before it."""

    def work(self, size: int, portion: int) -> float:
        """How many bytes are copied to buffers per byte of a frame that comes in portions."""
        self.patch(frames, "BytesIO", CountingBytesIO)
        CountingBytesIO.copied = 0
        stream = encode_frame(bytes(size))
        decoder = FrameDecoder(size)
        count = 0
        for start in range(0, len(stream), portion):
            decoder.feed(stream[start : start + portion])
            count += decoder.next_frame() is not None
        self.assertEqual(count, 1)
        return CountingBytesIO.copied / size

    def test_largeFrame(self) -> None:
        """Each byte of a frame is copied once to its buffer, however large the frame."""
        for size, portion in ((65536, 1460), (4 * MiB, 1460), (16384, 1), (3 * MiB, 65536)):
            self.assertAlmostEqual(self.work(size, portion), 1, places=3)

    def test_frameIsNotCopiedAgain(self) -> None:
        """A large frame's buffer becomes the frame: the peak is that of one copy."""
        size = 8 * MiB
        chunk = bytes(1460)
        decoder = FrameDecoder(size)
        decoder.feed(pack("!I", size))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        frame = None
        while frame is None:
            decoder.feed(chunk)
            frame = decoder.next_frame()
        self.assertLess(tracemalloc.get_traced_memory()[1], size * 1.25)

    def test_manyFramesInOneRead(self) -> None:
        """Frames are taken out of a large read in place: no buffer, no copy of the rest."""
        self.patch(frames, "BytesIO", CountingBytesIO)
        CountingBytesIO.copied = 0
        decoder = FrameDecoder(10)
        decoder.feed(encode_frame(b"abc") * 100_000)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        count = 0
        while decoder.next_frame() is not None:
            count += 1
        self.assertEqual((count, CountingBytesIO.copied), (100_000, 0))
        self.assertLess(tracemalloc.get_traced_memory()[1], 4096)

    def test_frameAndMerge(self) -> None:
        """Bytes fed ahead of the taking are copied at most twice in all."""
        self.patch(frames, "BytesIO", CountingBytesIO)
        CountingBytesIO.copied = 0
        decoder = FrameDecoder(10_000)
        stream = encode_frame(bytes(9_000)) * 50
        for start in range(0, len(stream), 7):
            decoder.feed(stream[start : start + 7])
        self.assertEqual(len(taken(decoder)), 50)
        self.assertLessEqual(CountingBytesIO.copied, 2 * len(stream))
