"""WebSocket frames (RFC 6455, section 5) without a socket: bytes in, whole messages out, and back.

Whether a whole text is UTF-8 is for its reader to ask (:func:`as_text`), who may know it already.
"""

from __future__ import annotations

import os
import struct

from callrt.wire.masks import mask

CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

CONTROL_BYTES_MAX = 125
_MASKS_AT_ONCE = 240
"""Bytes of randomness fetched together: somewhat more than a second of frames."""

_LONG = struct.Struct("!Q")


class ProtocolViolation(Exception):
    """The peer broke the protocol; ``code`` is what it is to be told."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FrameReader:
    """Whole messages from any pieces of a byte stream.

    ``masked``: the peer is a client, whose frames must be masked; a server's must not. After a
    :class:`ProtocolViolation` the reader is of no more use.
    """

    __slots__ = (
        "_at",
        "_first",
        "_fragments",
        "_have",
        "_head",
        "_kind",
        "_limit",
        "_mask_bit",
        "_need",
        "_parts",
        "_size",
        "rest",
    )

    def __init__(self, *, masked: bool, message_bytes: int) -> None:
        self._mask_bit = 0x80 if masked else 0
        # Of a whole text with a length of two bytes.
        self._first = bytes((0x80 | TEXT, self._mask_bit | 126))
        self._head = 8 if masked else 4
        self._limit = message_bytes
        self.rest = b""
        """What has come and :meth:`next` has not looked at is in here."""
        self._at = 0
        # Of a frame that is not whole: its pieces, their bytes, and how many are needed to go on.
        self._parts: list[bytes] | None = None
        self._have = 0
        self._need = 2
        self._kind = CONTINUED
        self._fragments: list[bytes] | None = None
        self._size = 0

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        if self._parts:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._parts)
            self._parts = None
            self._have = 0
        elif self.rest:
            data = self.rest[self._at :] + data
        self.rest = data
        self._at = 0

    def whole(self, data: bytes) -> bytes | None:
        """The payload of ``data``, instead of :meth:`feed`, if that is exactly one text message in one frame of a
        middle size, as nearly every read is; whether it is UTF-8 is for the caller to find out. None: it is anything
        else, or not the beginning of a frame; nothing was taken.
        """
        size = len(data) - self._head
        if size < 126 or not data.startswith(self._first) or data[2] << 8 | data[3] != size:
            return None
        if self.rest or self._parts or self._kind or size > self._limit:
            return None
        return mask(data[8:], data[4:8]) if self._mask_bit else data[4:]

    def next(self) -> tuple[int, bytes] | None:
        """Opcode and payload of the next message or control frame; None: more bytes are needed. Raises
        :class:`ProtocolViolation`."""
        buffer, limit = self.rest, self._limit
        at = self._at
        # Several messages in one read: each as in whole().
        body = at + self._head
        if buffer[at : at + 2] == self._first and not self._kind and len(buffer) >= body:
            end = body + (buffer[at + 2] << 8 | buffer[at + 3])
            if body + 126 <= end <= len(buffer) and end - body <= limit:
                payload = buffer[body:end]
                if self._mask_bit:
                    payload = mask(payload, buffer[body - 4 : body])
                if end == len(buffer):
                    self.rest = b""
                    self._at = 0
                else:
                    self._at = end
                return TEXT, payload
        while True:
            at = self._at
            left = len(buffer) - at
            if left < 2:
                self._wait(2)
                return None
            first, second = buffer[at], buffer[at + 1]
            if (second ^ self._mask_bit) & 0x80:
                raise ProtocolViolation(1002, "wrong masking")
            length = second & 0x7F
            body = at + 2
            if length == 126:
                if left < 4:
                    self._wait(4)
                    return None
                length = buffer[at + 2] << 8 | buffer[at + 3]
                body = at + 4
                if length < 126:
                    raise ProtocolViolation(1002, "length not minimal")
            elif length == 127:
                if left < 10:
                    self._wait(10)
                    return None
                (length,) = _LONG.unpack_from(buffer, at + 2)
                body = at + 10
                if length < 65_536 or length >> 63:
                    raise ProtocolViolation(1002, "length not minimal")
            self._check(first, length)
            if self._size + length > limit:
                raise ProtocolViolation(1009, "message too big")
            if second & 0x80:
                body += 4
            end = body + length
            if len(buffer) < end:
                self._wait(end - at)
                return None
            payload = buffer[body:end]
            if second & 0x80:
                payload = mask(payload, buffer[body - 4 : body])
            if end == len(buffer):
                self.rest = buffer = b""
                self._at = 0
            else:
                self._at = end
            if first == 0x81:
                return TEXT, payload
            message = self._collect(first, payload)
            if message is not None:
                return message

    def _check(self, first: int, length: int) -> None:
        if first == 0x81 and not self._kind:
            return
        opcode = first & 0x0F
        if first & 0x70:
            raise ProtocolViolation(1002, "reserved bits")
        if opcode in (CLOSE, PING, PONG):
            if length > CONTROL_BYTES_MAX or not first & 0x80:
                raise ProtocolViolation(1002, "control frame too long or in fragments")
        elif opcode == CONTINUED:
            if not self._kind:
                raise ProtocolViolation(1002, "nothing to continue")
        elif opcode not in (TEXT, BINARY):
            raise ProtocolViolation(1002, "unknown opcode")
        elif self._kind:
            raise ProtocolViolation(1002, "message within a message")

    def _collect(self, first: int, payload: bytes) -> tuple[int, bytes] | None:
        opcode = first & 0x0F
        if opcode >= CLOSE:
            return opcode, payload
        if opcode != CONTINUED:
            self._kind = opcode
        if self._fragments is None:
            self._fragments = []
        self._fragments.append(payload)
        self._size += len(payload)
        if not first & 0x80:
            if not payload:
                self._fragments.pop()  # a flood of empty fragments must not grow a list
            return None
        whole = b"".join(self._fragments)
        kind, self._kind = self._kind, CONTINUED
        self._fragments = None
        self._size = 0
        return kind, whole

    def _wait(self, need: int) -> None:
        rest = self.rest[self._at :]
        self.rest = b""
        self._at = 0
        self._need = need
        if rest:
            self._parts = [rest]
            self._have = len(rest)


def as_text(payload: bytes) -> str:
    """Raises :class:`ProtocolViolation` for what is not UTF-8."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise ProtocolViolation(1007, "text that is not UTF-8") from None


class FrameWriter:
    """Frames for the peer, each whole. A client's are masked, each with a key that nobody can foresee."""

    __slots__ = ("_bit", "_head", "_keys", "_kind", "_next")

    def __init__(self, *, masked: bool) -> None:
        self._bit = 0x80 if masked else 0
        self._head = b""
        self._kind = -1
        self._keys = b""
        self._next = 0

    def frame(self, opcode: int, payload: bytes) -> bytes:
        size = len(payload)
        kind = size << 4 | opcode
        # Most frames are as long as the one before.
        head = self._head if kind == self._kind else self._new_head(kind, opcode, size)
        if not self._bit:
            return head + payload
        at = self._next
        if at == len(self._keys):
            self._keys = os.urandom(_MASKS_AT_ONCE)
            at = 0
        self._next = at + 4
        key = self._keys[at : at + 4]
        return head + key + mask(payload, key)

    def _new_head(self, kind: int, opcode: int, size: int) -> bytes:
        bit = self._bit
        if size < 126:
            head = bytes((0x80 | opcode, bit | size))
        elif size < 65_536:
            head = bytes((0x80 | opcode, bit | 126, size >> 8, size & 0xFF))
        else:
            head = bytes((0x80 | opcode, bit | 127)) + _LONG.pack(size)
        self._head, self._kind = head, kind
        return head


# -- closing ---------------------------------------------------------------------------------------------


def close_payload(code: int | None, reason: str) -> bytes:
    """Of a close frame; a reason too long is cut at a character."""
    if code is None:
        return b""
    return code.to_bytes(2, "big") + reason.encode()[: CONTROL_BYTES_MAX - 2].decode(errors="ignore").encode()


def parse_close(payload: bytes) -> tuple[int, str]:
    """Code (1005: none given) and reason. Raises :class:`ProtocolViolation`."""
    if not payload:
        return 1005, ""
    code = int.from_bytes(payload[:2], "big")
    known = code in (1000, 1001, 1002, 1003) or 1007 <= code <= 1014 or 3000 <= code <= 4999
    if len(payload) < 2 or not known:
        raise ProtocolViolation(1002, "bad close code")
    return code, as_text(payload[2:])
