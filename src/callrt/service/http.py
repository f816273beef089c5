"""A small HTTP/1.1 server over any Trio stream: h11 for the grammar, bounds for everything.

It serves what carriers and operators ask for and no more. A mistake of the peer's is answered with one
sentence of plain text, and a failure of ours with no detail at all.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
import h11
import trio

log = logging.getLogger("callrt.http")


@attrs.frozen
class HttpLimits:
    head_bytes_max: int = 16 * 1024
    """Request line and headers together: twice what common proxies allow."""
    body_bytes_max: int = 64 * 1024
    """A webhook has a few kB."""
    head_timeout_seconds: float = 10
    body_timeout_seconds: float = 10
    idle_timeout_seconds: float = 30
    """Between two requests on one connection."""
    handler_timeout_seconds: float = 12
    """Twilio gives up after 15."""
    send_timeout_seconds: float = 10
    linger_seconds: float = 2
    """After a refusal the rest of the request is read for so long: else the peer may not see the answer."""
    requests_max: int = 1000
    """On one connection; then the peer opens another."""


@attrs.frozen
class HttpRequest:
    method: str
    target: str
    """As sent: path and query."""
    path: str
    """Without query, percent-decoded."""
    query: str
    headers: tuple[tuple[str, str], ...]
    """Names in lower case."""
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The first header of this name (in lower case)."""
        return next((value for key, value in self.headers if key == name), None)


@attrs.frozen
class HttpResponse:
    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def sentence(cls, status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> HttpResponse:
        """One sentence of plain text."""
        return cls(status, text.encode() + b"\n", headers=headers)


Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


def phrase(status: int) -> str:
    return HTTPStatus(status).phrase


class _Refused(Exception):
    def __init__(self, response: HttpResponse) -> None:
        super().__init__(response.status)
        self.response = response


async def serve_http(
    stream: trio.abc.Stream,
    handler: Handler,
    *,
    limits: HttpLimits | None = None,
    initial: bytes = b"",
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Serve one connection until either side ends it, then close it. ``initial``: bytes already read from it.

    ``waiting`` is entered while nothing is done but wait for the peer: who needs the place may cancel then, and
    a request that comes in that moment is not begun. Whatever the peer or the handler does, nothing but a
    cancellation comes out of here. If cancelled: the connection is dropped.
    """
    connection = _Connection(stream, limits or HttpLimits(), initial, waiting)
    try:
        await connection.serve(handler)
    except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError, trio.TooSlowError):
        log.debug("connection lost")
    except h11.LocalProtocolError:
        log.exception("response could not be written")
    finally:
        await trio.aclose_forcefully(stream)


class _Connection:
    def __init__(
        self,
        stream: trio.abc.Stream,
        limits: HttpLimits,
        initial: bytes,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._stream = stream
        self._waiting = waiting
        self._limits = limits
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes_max)
        self._fresh = True
        self._head_bytes = 0
        if initial:
            self._h11.receive_data(initial)

    async def serve(self, handler: Handler) -> None:
        for _ in range(self._limits.requests_max):
            try:
                request = await self._read_request()
            except _Refused as refusal:
                await self._refuse(refusal.response)
                return
            if request is None:
                return
            response = await self._respond(handler, request)
            try:
                await self._send(request.method, response)
            except h11.RemoteProtocolError:
                return
            if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
                await self._linger()
                return
            self._h11.start_next_cycle()
            self._fresh = False

    async def _read_request(self) -> HttpRequest | None:
        """The next request with its whole body; None if the peer has ended, or has nothing more to say."""
        try:
            head = await self._read_head()
            if head is None:
                return None
            body = await self._read_body(head)
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            text = "the headers are too large" if status == 431 else "this is not a valid HTTP/1.1 request"
            raise _Refused(HttpResponse.sentence(status, text)) from None
        target = head.target.decode("ascii", "replace")
        try:
            parts = urlsplit(target)
            path = unquote(parts.path, errors="strict")
        except (UnicodeDecodeError, ValueError):
            raise _Refused(HttpResponse.sentence(400, "the path is not valid")) from None
        headers = tuple(
            (name.decode("ascii", "replace"), value.decode("latin-1")) for name, value in head.headers
        )
        return HttpRequest(head.method.decode("ascii", "replace"), target, path, parts.query, headers, body)

    async def _read_head(self) -> h11.Request | None:
        limits = self._limits
        timeout = limits.head_timeout_seconds if self._fresh else limits.idle_timeout_seconds
        with trio.move_on_after(timeout) as scope:
            while True:
                event = self._h11.next_event()
                if event is h11.NEED_DATA:
                    await self._receive()
                    if not self._fresh and self._h11.trailing_data[0]:
                        # A next request has begun: from now on its own clock runs.
                        scope.deadline = min(
                            scope.deadline, trio.current_time() + limits.head_timeout_seconds
                        )
                        self._fresh = True
                elif isinstance(event, h11.Request):
                    return event
                else:
                    return None
        if self._fresh and self._h11.trailing_data[0]:
            raise _Refused(HttpResponse.sentence(408, "the headers did not arrive in time"))
        return None

    async def _read_body(self, head: h11.Request) -> bytes:
        limits = self._limits
        too_large = _Refused(
            HttpResponse.sentence(413, f"the body is larger than {limits.body_bytes_max} bytes")
        )
        for name, value in head.headers:
            if name == b"content-length" and int(value) > limits.body_bytes_max:
                raise too_large
        body = bytearray()
        with trio.move_on_after(limits.body_timeout_seconds):
            while True:
                if self._h11.they_are_waiting_for_100_continue:
                    await self._write(h11.InformationalResponse(status_code=100, headers=[]))
                event = self._h11.next_event()
                if event is h11.NEED_DATA:
                    await self._receive()
                elif isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > limits.body_bytes_max:
                        raise too_large
                else:
                    return bytes(body)
        raise _Refused(HttpResponse.sentence(408, "the body did not arrive in time"))

    async def _receive(self) -> None:
        with self._waiting():
            data = await self._stream.receive_some(16 * 1024)
        await trio.lowlevel.checkpoint_if_cancelled()
        self._h11.receive_data(bytes(data))

    async def _respond(self, handler: Handler, request: HttpRequest) -> HttpResponse:
        try:
            with trio.fail_after(self._limits.handler_timeout_seconds):
                return await handler(request)
        except trio.TooSlowError:
            log.error("no answer in time")
            return HttpResponse.sentence(503, "this takes too long; try again")
        except Exception:
            # The boundary of a request: one failure must not reach other connections.
            log.exception("request failed")
            return HttpResponse.sentence(500, "an error inside the server")

    async def _refuse(self, response: HttpResponse) -> None:
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        await self._send("GET", response, close=True)
        await self._linger()

    async def _send(self, method: str, response: HttpResponse, *, close: bool = False) -> None:
        headers: list[tuple[str, str]] = [
            ("content-type", response.content_type),
            ("content-length", str(len(response.body))),
            *response.headers,
        ]
        if close:
            headers.append(("connection", "close"))
        head = h11.Response(status_code=response.status, headers=headers, reason=phrase(response.status))
        data = self._h11.send(head) or b""
        if method != "HEAD" and response.body:
            data += self._h11.send(h11.Data(data=response.body)) or b""
        data += self._h11.send(h11.EndOfMessage()) or b""
        with trio.fail_after(self._limits.send_timeout_seconds):
            await self._stream.send_all(data)

    async def _write(self, event: Any) -> None:
        with trio.fail_after(self._limits.send_timeout_seconds):
            await self._stream.send_all(self._h11.send(event) or b"")

    async def _linger(self) -> None:
        """Let the peer read our answer: closing with unread input would reset the connection under it."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        with trio.move_on_after(self._limits.linger_seconds), self._waiting():
            while await self._stream.receive_some(64 * 1024):
                pass
