"""What comes fifty times a second, made and read by the short way. Each means the same as the long one beside it.

``tests/bench/test_bench_shortcuts.py`` holds that.
"""

from __future__ import annotations

import struct
from binascii import Error, a2b_base64, b2a_base64

from generator import audio
from generator.sockets import header, xor

_STAMP = struct.Struct("<3sHHId2s")
"""A stamp and the first two bytes of the rest: as base64 they end together."""
_BEFORE = b'{"event":"media","sequenceNumber":"'
_BETWEEN = b'%d","media":{"track":"inbound","chunk":"%d","timestamp":"%d","payload":"%b'
_AFTER = audio.FILL + b'"},"streamSid":"%b"}'

AUDIO_DELTA = (
    b'{"type":"response.output_audio.delta","delta":"%b","response_id":"r%d","item_id":"a%d",'
    b'"output_index":0,"content_index":0,"event_id":"event_%d"}'
)
TEXT_DELTA = AUDIO_DELTA.replace(b"output_audio", b"output_audio_transcript", 1)


def media_message(number: int, sound: bytes, stream_sid: bytes) -> bytes:
    """The caller's frame of this number. ``sound`` is base64."""
    between = _BETWEEN % (number + 2, number + 1, number * 20, sound)
    return _BEFORE + between + b'"},"streamSid":"%b"}' % stream_sid


class StampedFrames:
    """A caller's frames as they go on the wire: only the numbers and the stamp are put together anew."""

    def __init__(self, call: int, stream_sid: bytes, mask: bytes) -> None:
        self._call = call
        self._stream_sid = stream_sid
        self._mask = mask
        self._until = 0
        self._before = self._after = b""
        self._pattern = self._size = 0

    def frame(self, number: int, at: float) -> bytes:
        """The frame of this number; they ascend."""
        if number >= self._until:
            self._lay_out(number)
        stamp = _STAMP.pack(audio.MAGIC, self._call, 0, number + 1, at, b"\x71\x71")
        sound = b2a_base64(stamp, newline=False)
        between = _BETWEEN % (number + 2, number + 1, number * 20, sound)
        masked = (int.from_bytes(between, "little") ^ self._pattern).to_bytes(self._size, "little")
        return self._before + masked + self._after

    def _lay_out(self, number: int) -> None:
        """The lengths hold until one of the numbers has a digit more."""
        widths = [len(str(n)) for n in (number + 2, number + 1, number * 20)]
        self._until = min(10 ** widths[0] - 2, 10 ** widths[1] - 1, -(-(10 ** widths[2]) // 20))
        sound = bytes(audio.STAMP_CHARS)
        start = len(_BEFORE)
        end = start + len(_BETWEEN % (number + 2, number + 1, number * 20, sound))
        whole = _BEFORE + bytes(end - start) + _AFTER % self._stream_sid
        masked = xor(whole, self._mask)
        self._before = header(1, len(whole), 128) + self._mask + masked[:start]
        # What the gap's zeros became is the mask at that place.
        self._pattern = int.from_bytes(masked[start:end], "little")
        self._size = end - start
        self._after = masked[end:]


class StampPlace:
    """Finds the stamp in a masked frame that is laid out as the last one was; unmasks no more than its head."""

    def __init__(self) -> None:
        self.size = 0
        """Of the whole frame; 0 while none has been learned."""
        self._header = b""
        self._prefix = b""
        self._repeat = 0
        self._words = 0

    def learn(self, prefix: bytes, size: int) -> None:
        """The audio of a message of this size begins with a stamp, and this comes before it."""
        if not 126 <= size < 65_536:
            return
        self._prefix = prefix + audio.MAGIC_TEXT
        self._header = header(1, size, 128)
        self._words = -(-(len(prefix) + audio.STAMP_CHARS) // 4) * 4
        self._repeat = int.from_bytes(b"\x01\x00\x00\x00" * (self._words // 4), "little")
        self.size = len(self._header) + 4 + size

    def find(self, frame: bytes) -> tuple[int, int, int, float] | None:
        """``(call, reply, frame, time)``; None if anything is not as it was. ``frame`` is of this ``size``."""
        if not frame.startswith(self._header):
            return None
        mask = int.from_bytes(frame[4:8], "little") * self._repeat
        head = (int.from_bytes(frame[8 : 8 + self._words], "little") ^ mask).to_bytes(self._words, "little")
        if not head.startswith(self._prefix):
            return None
        at = len(self._prefix) - len(audio.MAGIC_TEXT)
        try:
            stamp = a2b_base64(head[at : at + audio.STAMP_CHARS])
        except Error:
            return None
        if len(stamp) != _STAMP.size:
            return None
        _, call, reply, number, sent_at, _ = _STAMP.unpack(stamp)
        return call, reply, number, sent_at


class TextPlace:
    """Finds the one text that changes in messages of one kind, once one of them has been parsed."""

    def __init__(self) -> None:
        self._head = b"\x00"
        self._tail = b""

    def learn(self, message: bytes, text: bytes) -> None:
        """This message was parsed, and this text was in it."""
        quoted = b'"' + text + b'"'
        if message.count(quoted) == 1 and b"\\" not in message:
            head, _, tail = message.partition(quoted)
            self._head, self._tail = head + b'"', b'"' + tail

    def find(self, message: bytes) -> bytes | None:
        """None, if the message is not the learned one with another text, or the text holds an escape."""
        if not message.startswith(self._head) or not message.endswith(self._tail):
            return None
        at, end = len(self._head), len(message) - len(self._tail)
        # Of the mark that closes the text there is no other in it.
        if message.find(b'"', at) != end or b"\\" in message:
            return None
        return message[at:end]
