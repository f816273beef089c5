"""Media sockets: who may open one, and the first words on it. Then the stream is the desk's.

The upgrade is authorised by signature and path token; the token is redeemed only at ``start``, when the
carrier has named the call: a handshake that fails half-way must not cost the call its stream.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import attrs
import trio

from callrt.policy.facts import BadInput, Fact
from callrt.protocol.carriers.events import BadMessage, StreamStarted, StreamStopped
from callrt.protocol.carriers.twilio import TwilioCodec
from callrt.service.desk import Attached, CallDesk
from callrt.service.elsewhere import Elsewhere
from callrt.service.router import strip_prefix
from callrt.service.tokens import PathTokens
from callrt.telephony import signatures
from callrt.telephony.urls import MEDIA_PREFIX, Urls
from callrt.wire.limits import SERVER_LIMITS, SocketLimits
from callrt.wire.transport import Transport, TransportClosed
from callrt.wire.websocket import Headers, accept, stands_alone

log = logging.getLogger("callrt.media")

START_TIMEOUT_SECONDS = 5.0
"""``connected`` and ``start`` follow the upgrade at once."""

_MESSAGES_BEFORE_START_MAX = 64


_POLICY_VIOLATION = 1008
_UNSUPPORTED = 1003
_INTERNAL = 1011


class _Refused(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@attrs.frozen(eq=False)
class Visit:
    """A socket that is its call's, until that is over."""

    _transport: Transport
    _attached: Attached

    async def wait(self) -> None:
        """To the end of the stream, and of the socket. If cancelled: the stream is dead."""
        code, reason = 1000, ""
        try:
            try:
                await self._attached.wait_over()
            except Exception:
                log.exception("stream failed")
                code, reason = _INTERNAL, "internal error"
            await self._transport.aclose(code, reason)
        finally:
            self._transport.abort()

    def rest(self, wake: Callable[[], None]) -> bool:
        """Instead of a task that waits as long as the call lasts: ``wake`` is called when the stream is over, and
        :meth:`wait` does what is left. False: it is over. No checkpoint."""
        return self._attached.call_over(wake)

    def drop(self) -> None:
        """As a cancelled :meth:`wait`. No checkpoint."""
        self._attached.drop()
        self._transport.abort()


@attrs.frozen
class MediaDoor:
    """Serves the sockets under ``/twilio/media/``."""

    desk: CallDesk
    urls: Urls
    tokens: PathTokens
    keys: Sequence[str] = attrs.field(repr=False)
    verify: bool
    observe: Callable[[Fact], None]
    limits: SocketLimits = SERVER_LIMITS
    elsewhere: Elsewhere | None = None

    async def serve(self, stream: trio.abc.Stream, pre_read: bytes) -> Visit | None:
        """One socket, here or elsewhere, from its upgrade until it is its call's; what remains is the visit. None: it
        is over. If cancelled: the socket is dead."""
        call_sid = self._call_of(pre_read)
        if self.elsewhere is None or call_sid is None:
            return await self.serve_here(stream, pre_read)
        if await self.elsewhere.pass_on(call_sid, stream, pre_read):
            return None
        try:
            return await self.serve_here(stream, pre_read)
        finally:
            # A call that is here by now tells of its end itself.
            self.elsewhere.settled(call_sid)

    def _call_of(self, head: bytes) -> str | None:
        """The call that the token in this head is for, if it is a token of ours."""
        line = head.split(b"\n", 1)[0].split(b" ")
        target = line[1].decode("ascii", "replace") if len(line) == 3 else ""
        path = strip_prefix(target, self.urls.path_prefix)
        claim = self.tokens.verify(path[len(MEDIA_PREFIX) :]) if path.startswith(MEDIA_PREFIX) else None
        return None if claim is None else claim[0]

    async def serve_here(self, stream: trio.abc.Stream, pre_read: bytes) -> Visit | None:
        """As :meth:`serve`, in this process."""
        if stands_alone(stream, self.limits):
            return await self._accept(None, stream, pre_read)
        async with trio.open_nursery() as nursery:
            visit = await self._accept(nursery, stream, pre_read)
            if visit is not None:
                await visit.wait()
            return None

    async def _accept(
        self, nursery: trio.Nursery | None, stream: trio.abc.Stream, pre_read: bytes
    ) -> Visit | None:
        claims: list[tuple[str, int]] = []

        async def check(target: str, headers: Headers) -> tuple[int, bytes] | None:
            claim = await self.claim(target, headers)
            if isinstance(claim, str):
                self.observe(BadInput("upgrade", claim))
                return 403, b"this stream is not expected\n"
            claims.append(claim)
            return None

        transport = await accept(nursery, stream, check, pre_read=pre_read, limits=self.limits)
        return None if transport is None else await self.attend(transport, *claims[0])

    async def claim(self, target: str, headers: Headers) -> tuple[str, int] | str:
        """The call and generation this upgrade may be for, or one word why it is refused. If cancelled: no effect."""
        path = strip_prefix(target, self.urls.path_prefix)
        if not path.startswith(MEDIA_PREFIX):
            return "address"
        token = path[len(MEDIA_PREFIX) :]
        if self.verify and not self._is_signed(token, headers):
            return "signature"
        claim = self.tokens.verify(token)
        if claim is None:
            return "token"
        return claim if await self.desk.expects(*claim) else "used_token"

    def _is_signed(self, token: str, headers: Headers) -> bool:
        wanted = signatures.HEADER.encode()
        given = next((value for name, value in headers if name.lower() == wanted), b"")
        if not given or not token.isascii() or len(token) > 512:
            return False
        url = self.urls.media(token)
        return signatures.verify_upgrade(self.keys, url, given.decode("ascii", "replace"))

    async def attend(self, transport: Transport, call_sid: str, generation: int) -> Visit | None:
        """Take an accepted socket to its call. None: it is closed. If cancelled: the stream is dead."""
        attached = None
        try:
            attached = await self._attach(transport, call_sid, generation)
        except _Refused as refused:
            await transport.aclose(refused.code, refused.reason)
        except Exception:
            # The boundary of a stream: the call may live on, and so must the listener.
            log.exception("stream failed")
            await transport.aclose(_INTERNAL, "internal error")
        finally:
            if attached is None:
                transport.abort()
        return None if attached is None else Visit(transport, attached)

    async def _attach(self, transport: Transport, call_sid: str, generation: int) -> Attached | None:
        codec = TwilioCodec()
        started = await self._wait_started(transport, codec, call_sid)
        if started is None:
            self.desk.bad_input(call_sid, "no_start")
            raise _Refused(_POLICY_VIOLATION, "no start")
        if started.call_id != call_sid:
            self.desk.bad_input(call_sid, "foreign_call")
            raise _Refused(_POLICY_VIOLATION, "not this call")
        if (started.encoding, started.sample_rate, started.channels) != ("audio/x-mulaw", 8000, 1):
            self.desk.bad_input(call_sid, "media_format")
            raise _Refused(_UNSUPPORTED, "media format")
        # Asked again: another socket with the same token may have started meanwhile.
        if not self.desk.may_attach(call_sid, generation):
            self.desk.bad_input(call_sid, "used_token")
            raise _Refused(_POLICY_VIOLATION, "used")
        return await self.desk.attach(call_sid, generation, transport, codec, started)

    async def _wait_started(
        self, transport: Transport, codec: TwilioCodec, call_sid: str
    ) -> StreamStarted | None:
        with trio.move_on_after(START_TIMEOUT_SECONDS):
            for _ in range(_MESSAGES_BEFORE_START_MAX):
                try:
                    message = await transport.receive()
                except TransportClosed:
                    return None
                match codec.decode(message):
                    case StreamStarted() as started:
                        return started
                    case BadMessage(reason):
                        self.desk.bad_input(call_sid, reason)
                    case StreamStopped():
                        return None
                    case _:
                        pass
        return None
