"""WebSocket frames on raw sockets, as cheaply as Python can."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Protocol

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
READ = 16_384


class Watcher(Protocol):
    out_of_room: int

    def watch(self, sock: socket.socket, handler: Callable[[], None]) -> None: ...

    def forget(self, sock: socket.socket) -> None: ...


class Socket:
    """Reading whole frames, writing what fits; the rest follows with the next write."""

    def __init__(self, world: Watcher, sock: socket.socket) -> None:
        self.sock = sock
        self.rest = b""
        self.out = b""
        self.usual = 0
        """Size of the frame that comes all the time: see ``short``."""
        self._recv = sock.recv
        self._send = sock.send
        self.upgraded = False
        self.is_tls = isinstance(sock, ssl.SSLSocket)
        self._watcher = world
        world.watch(sock, self.readable)

    def readable(self) -> None:
        while True:
            try:
                data = self._recv(READ)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            except OSError:
                data = b""
            if not data:
                self.ended()
                return
            if self.rest or len(data) != self.usual or not self.short(data):
                data = self.rest + data
                self.rest = self.frames(data) if self.upgraded else self.head(data)
            # A TLS socket may hold more than epoll knows of.
            if not self.is_tls or self.sock.fileno() < 0 or not self.sock.pending():  # type: ignore[attr-defined]
                return

    def send(self, data: bytes) -> None:
        if self.out:
            data = self.out + data
        try:
            sent = self._send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        except OSError:
            return
        if sent < len(data):
            self._watcher.out_of_room += 1
            self.out = data[sent:]
        else:
            self.out = b""

    def short(self, data: bytes) -> bool:
        """Handle the usual frame; False if it is not that one after all."""
        return False

    def frames(self, data: bytes) -> bytes:
        """Handle the whole frames of ``data``; returns what is left."""
        at, end = 0, len(data)
        while end - at >= 2:
            opcode, length = data[at] & 15, data[at + 1]
            masked = length & 128
            length &= 127
            body = at + 2
            if length == 126:
                if end - at < 4:
                    break
                length = data[at + 2] << 8 | data[at + 3]
                body += 2
            elif length == 127:
                if end - at < 10:
                    break
                length = int.from_bytes(data[at + 2 : at + 10], "big")
                body += 8
            mask = b""
            if masked:
                mask = data[body : body + 4]
                body += 4
            if end < body + length:
                break
            payload = data[body : body + length]
            at = body + length
            if opcode in (0, 1, 2):
                self.message(payload, mask)
            elif opcode == 9:
                self.control(10, xor(payload, mask) if mask else payload)
            elif opcode == 8:
                self.ended()
                return b""
        return data[at:]

    def reset(self) -> None:
        """The line is cut: no close, no farewell."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._watcher.forget(self.sock)

    def ended(self) -> None:
        self._watcher.forget(self.sock)

    def head(self, data: bytes) -> bytes:
        raise NotImplementedError

    def message(self, payload: bytes, mask: bytes) -> None:
        """``payload`` is still masked if there is a mask: often only its beginning is of interest."""
        raise NotImplementedError

    def control(self, opcode: int, payload: bytes) -> None:
        raise NotImplementedError


def xor(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    pattern = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(pattern, "little")).to_bytes(size, "little")


def header(opcode: int, size: int, masked: int) -> bytes:
    if size < 126:
        return bytes((128 | opcode, masked | size))
    if size < 65_536:
        return struct.pack("!BBH", 128 | opcode, masked | 126, size)
    return struct.pack("!BBQ", 128 | opcode, masked | 127, size)


def accept_key(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def dial(host: str, port: int) -> socket.socket:
    sock = socket.create_connection((host, port), timeout=5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    return sock


def sign(key: str, text: str) -> str:
    """As the carrier signs."""
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha1).digest()).decode()
