"""A port: looks at the head of a connection's first request and gives it to HTTP or to media.

Connections are bounded by kind, so that a crowd of idle webhooks cannot keep a call's media out, and a crowd
that says nothing, or nothing more, keeps nobody out. Whatever happens to one connection stays with it: nothing but a
cancellation comes out of a handler.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, Protocol

import attrs
import trio

from callrt.policy.facts import ConnectionRefused, Fact
from callrt.service.http import Handler, HttpLimits, HttpRequest, HttpResponse, phrase, serve_http
from callrt.service.router import strip_prefix
from callrt.telephony.urls import MEDIA_PREFIX

log = logging.getLogger("callrt.listener")


class Visit(Protocol):
    """What remains of a connection when its socket has found its call."""

    async def wait(self) -> None:
        """To the end of the socket."""
        ...

    def rest(self, wake: Callable[[], None]) -> bool:
        """``wake`` is called when :meth:`wait` has something to do. False: it has now."""
        ...

    def drop(self) -> None:
        """End it at once."""
        ...


MediaHandler = Callable[[trio.abc.Stream, bytes], Awaitable[Visit | None]]
"""Of (stream, bytes already read). Owns the stream; its upgrade has not been answered. None: it is over."""

_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_UPGRADE = re.compile(rb"^upgrade[ \t]*:[^\r\n]*\bwebsocket\b", re.IGNORECASE | re.MULTILINE)


@attrs.frozen
class PortLimits:
    unknown_connections_max: int = 512
    """Whose first head is not there yet. Who means it sends it at once: one more, and the oldest has to go."""
    http_connections_max: int = 512
    """One more, and the one that has waited longest for its peer has to go. If none waits, the new one has to."""
    media_connections_max: int = 2000
    """Above what one process can carry; admission of calls is the desk's."""


class Port:
    """One listening port. Without a media handler all is HTTP. ``keep_alive``: false where other processes accept,
    too, because a connection that stays would die with its process, and the next request on it be lost."""

    def __init__(
        self,
        name: Literal["public", "admin"],
        http: Handler,
        *,
        observe: Callable[[Fact], None],
        media: MediaHandler | None = None,
        prefix: str = "",
        keep_alive: bool = True,
        limits: PortLimits | None = None,
        http_limits: HttpLimits | None = None,
    ) -> None:
        self._name: Literal["public", "admin"] = name
        self._http = http
        self._media = media
        self._prefix = prefix
        self._observe = observe
        self._limits = limits or PortLimits()
        self._http_limits = http_limits or HttpLimits()
        self._accepting: trio.CancelScope | None = None
        self._close = not keep_alive
        self._handlers: trio.Nursery | None = None
        self._resting: dict[Visit, None] = {}
        self._unknown: dict[trio.CancelScope, None] = {}
        """Connections whose first head is awaited, the oldest first."""
        self._waiting: dict[trio.CancelScope, None] = {}
        """HTTP connections that have nothing to do but wait for their peer, the longest first."""
        self.http_connections = 0
        self.media_connections = 0

    async def run(
        self,
        listeners: Sequence[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept until cancelled. If cancelled: listeners and connections are closed."""
        async with trio.open_nursery() as handlers:
            self._handlers = handlers
            try:
                with trio.CancelScope() as self._accepting:
                    await trio.serve_listeners(
                        self.handle, list(listeners), handler_nursery=handlers, task_status=task_status
                    )
                await trio.sleep_forever()
            finally:
                self._handlers = None
                self._drop_resting()

    def stop_accepting(self) -> None:
        """Close the listeners for good; connections go on, each to the end of its next answer. No checkpoint."""
        self._close = True
        if self._accepting is not None:
            self._accepting.cancel()

    async def _answer_http(self, request: HttpRequest) -> HttpResponse:
        response = await self._http(request)
        if self._close:
            # Whoever comes back finds another process.
            response = attrs.evolve(response, headers=(*response.headers, ("connection", "close")))
        return response

    def handle(self, stream: trio.abc.Stream) -> Coroutine[Any, Any, None]:
        """Serve one connection to its end."""
        return self._contained(stream, self._serve(stream))

    def handle_media(
        self, media: MediaHandler
    ) -> Callable[[trio.abc.Stream, bytes], Coroutine[Any, Any, None]]:
        """A handler for sockets that were accepted elsewhere: bounded and contained like our own."""
        return lambda stream, head: self._contained(stream, self._serve_media(media, stream, head))

    async def _contained(self, stream: trio.abc.Stream, serving: Coroutine[Any, Any, Visit | None]) -> None:
        try:
            visit = await serving
            if visit is not None and not self._rest(visit):
                await self._see_out(visit)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("connection lost")
        except Exception:
            # The boundary of a connection: its failure must not end the listener.
            log.exception("connection failed")
        finally:
            await trio.aclose_forcefully(stream)

    # -- visits: for as long as a call, so not with a task each ---------------------------------------------

    def _rest(self, visit: Visit) -> bool:
        """False: it is over, or nobody would be there to see it out."""
        if self._handlers is None or not visit.rest(partial(self._wake, visit)):
            return False
        self._resting[visit] = None
        return True

    def _wake(self, visit: Visit) -> None:
        if visit in self._resting and self._handlers is not None:
            del self._resting[visit]
            self._handlers.start_soon(self._see_out, visit)

    async def _see_out(self, visit: Visit) -> None:
        try:
            await visit.wait()
        except Exception:
            log.exception("connection failed")
        finally:
            self.media_connections -= 1

    def _drop_resting(self) -> None:
        resting, self._resting = self._resting, {}
        for visit in resting:
            self.media_connections -= 1
            try:
                visit.drop()
            except Exception:  # the others are to be dropped all the same
                log.exception("connection failed")

    # -- one connection -------------------------------------------------------------------------------------

    @property
    def unknown_connections(self) -> int:
        return len(self._unknown)

    async def _serve(self, stream: trio.abc.Stream) -> Visit | None:
        head = await self._sniff(stream)
        if head is None:
            return None
        if self._media is not None and self._is_media(head):
            return await self._serve_media(self._media, stream, head)
        if self.http_connections >= self._limits.http_connections_max and not self._make_room():
            await self._turn_away(stream)
            return None
        self.http_connections += 1
        with trio.CancelScope() as place:
            try:
                await serve_http(
                    stream,
                    self._answer_http,
                    limits=self._http_limits,
                    initial=head,
                    waiting=lambda: self._waits(place),
                )
            finally:
                if not place.cancel_called:
                    self.http_connections -= 1
        return None

    @contextmanager
    def _waits(self, place: trio.CancelScope) -> Iterator[None]:
        self._waiting[place] = None
        try:
            yield
        finally:
            self._waiting.pop(place, None)

    def _make_room(self) -> bool:
        """End the HTTP connection that has waited longest. False: none waits."""
        if not _crowd_out(self._waiting):
            return False
        self.http_connections -= 1
        self._observe(ConnectionRefused(self._name))
        return True

    async def _serve_media(self, media: MediaHandler, stream: trio.abc.Stream, head: bytes) -> Visit | None:
        """The connection counts until the visit is over."""
        if self.media_connections >= self._limits.media_connections_max:
            await self._turn_away(stream)
            return None
        self.media_connections += 1
        visit = None
        try:
            visit = await media(stream, head)
        finally:
            if visit is None:
                self.media_connections -= 1
        return visit

    async def _sniff(self, stream: trio.abc.Stream) -> bytes | None:
        """The first head and what came with it, or as much as HTTP needs to refuse it; None: it is over."""
        if len(self._unknown) >= self._limits.unknown_connections_max:
            _crowd_out(self._unknown)
        with trio.CancelScope() as crowded_out:
            self._unknown[crowded_out] = None
            try:
                return await self._read_head(stream)
            finally:
                self._unknown.pop(crowded_out, None)
        await self._turn_away(stream)
        return None

    async def _read_head(self, stream: trio.abc.Stream) -> bytes | None:
        head = bytearray()
        with trio.move_on_after(self._http_limits.head_timeout_seconds) as scope:
            while len(head) <= self._http_limits.head_bytes_max and not _END_OF_HEAD.search(head):
                data = await stream.receive_some(16 * 1024)
                if not data:
                    return bytes(head) if head else None
                head += data
        if scope.cancelled_caught:
            if head:
                await _answer(stream, HttpResponse.sentence(408, "the headers did not arrive in time"))
            return None
        return bytes(head)

    def _is_media(self, head: bytes) -> bool:
        end = _END_OF_HEAD.search(head)
        if end is None:
            return False
        request_line = head.split(b"\n", 1)[0].split(b" ")
        if len(request_line) != 3 or not _UPGRADE.search(head[: end.start()]):
            return False
        path = request_line[1].decode("ascii", "replace")
        return strip_prefix(path, self._prefix).startswith(MEDIA_PREFIX)

    async def _turn_away(self, stream: trio.abc.Stream) -> None:
        self._observe(ConnectionRefused(self._name))
        await _answer(stream, HttpResponse.sentence(503, "too many connections; try again"))


def _crowd_out(places: dict[trio.CancelScope, None]) -> bool:
    """End the first of them, which was there longest. False: there is none."""
    oldest = next(iter(places), None)
    if oldest is None:
        return False
    del places[oldest]
    oldest.cancel()
    return True


async def _answer(stream: trio.abc.Stream, response: HttpResponse) -> None:
    head = (
        f"HTTP/1.1 {response.status} {phrase(response.status)}\r\ncontent-type: {response.content_type}\r\n"
        f"content-length: {len(response.body)}\r\nconnection: close\r\n\r\n"
    )
    with trio.move_on_after(1):
        await stream.send_all(head.encode() + response.body)
