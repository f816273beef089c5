"""TLS over a socket, as a stream for the handshakes and then as two functions for the media.

``trio.SSLStream`` pays for its locks and its retry loop with 20 microseconds a message. A session that one
task reads and nobody waits to write needs neither: bytes go through the two memory buffers in one step.
"""

from __future__ import annotations

import ssl

import trio

READ_BYTES = 65_536
RECORD_BYTES = 16_384
"""The most that one record holds."""


class TlsStream(trio.abc.Stream):
    """A client's TLS session over ``stream``. One task at a time; close_notify is not insisted on, as HTTPS does.

    When the handshakes are over, :meth:`encrypt` and :meth:`decrypt` go on without an await.
    """

    def __init__(self, stream: trio.SocketStream, context: ssl.SSLContext, server_hostname: str) -> None:
        self.stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self._ended = False

    async def do_handshake(self) -> None:
        """Raises :class:`trio.BrokenResourceError`. If cancelled: the stream is of no use."""
        while True:
            try:
                self._session.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._read_more()
                if self._ended:
                    raise trio.BrokenResourceError("ended in the handshake") from None
            except ssl.SSLError as error:
                await self._flush()
                raise trio.BrokenResourceError from error
            else:
                await self._flush()
                return

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Bytes, or b"" at the end. If cancelled: no effect."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self._session.read(max_bytes or READ_BYTES)
            except ssl.SSLWantReadError:
                await self._flush()
                if self._ended:
                    return b""
                await self._read_more()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                raise trio.BrokenResourceError from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """If cancelled: part of it may have been sent; the stream is of no use any more."""
        try:
            self._session.write(data)
        except ssl.SSLError as error:
            raise trio.BrokenResourceError from error
        await self._flush()

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the socket. If cancelled: closed all the same."""
        await self.stream.aclose()

    async def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            await self.stream.send_all(data)

    async def _read_more(self) -> None:
        data = await self.stream.receive_some(READ_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._ended = True
            self._incoming.write_eof()

    # -- without an await --------------------------------------------------------------------------------

    def encrypt(self, data: bytes) -> bytes:
        """``data`` as it goes over the socket, and whatever TLS itself has to say."""
        if data:
            self._session.write(data)
        return self._outgoing.read()

    def answer(self) -> bytes:
        """What TLS itself has to say; mostly b""."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def decrypt(self, data: bytes) -> bytes:
        """What came over the socket, in clear: b"" if no record is whole. Raises :class:`ssl.SSLError`: it is over.

        TLS may have something to say afterwards: send :meth:`answer`.
        """
        if data:
            self._incoming.write(data)
        clear: list[bytes] = []
        try:
            while True:
                clear.append(self._session.read(RECORD_BYTES))
                # Asking once more would only raise: that costs more than the decryption.
                if not self._incoming.pending and not self._session.pending():
                    return clear[0] if len(clear) == 1 else b"".join(clear)
        except ssl.SSLWantReadError:
            return clear[0] if len(clear) == 1 else b"".join(clear)
        except ssl.SSLError:
            if clear:
                # Its last words come first; the end comes again with the next read.
                return b"".join(clear)
            raise
