"""The seam between the service and the calls: who answers when a carrier asks.

The service checks who asks and what is asked; the desk decides. Every method may be called twice with the
same arguments, because carriers repeat their webhooks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from callrt.protocol.carriers.calls import IncomingCall
from callrt.protocol.carriers.documents import Document
from callrt.protocol.carriers.events import StreamStarted
from callrt.protocol.carriers.twilio import TwilioCodec
from callrt.wire.transport import Transport

__all__ = ["Attached", "CallDesk", "IncomingCall"]


class Attached(Protocol):
    """A stream that is its call's."""

    async def wait_over(self) -> None:
        """Until the call needs it no more. If cancelled: the stream is dead; the call is not."""
        ...

    def call_over(self, then: Callable[[], None]) -> bool:
        """Instead of :meth:`wait_over`: ``then`` is called when it would return. False: that is now. No checkpoint."""
        ...

    def drop(self) -> None:
        """What a cancelled :meth:`wait_over` does. No checkpoint."""
        ...


class CallDesk(Protocol):
    async def incoming(self, call: IncomingCall) -> Document:
        """A voice webhook. While draining, the document says so and hangs up.

        If cancelled: it may have happened.
        """
        ...

    async def stream_ended(self, call_sid: str) -> Document:
        """The stream has ended and the carrier asks what next. If cancelled: it may have happened."""
        ...

    async def dial_ended(self, call_sid: str, status: str) -> Document:
        """The attempt to reach the human is over; ``status`` as the carrier writes it."""
        ...

    async def whisper(self, call_sid: str) -> Document:
        """The human has answered: what to say before the caller is connected."""
        ...

    async def call_status(self, call_sid: str, status: str) -> None:
        """The carrier's word on the call's state; terminal ones end the call."""
        ...

    async def stream_status(self, call_sid: str, stream_sid: str, event: str, error: str) -> None:
        """The carrier's word on a stream; may come before or after the socket's own events."""
        ...

    def may_attach(self, call_sid: str, generation: int) -> bool:
        """May a stream of this generation attach, as far as is known here? False if it was used, or its call is
        over."""
        ...

    async def expects(self, call_sid: str, generation: int) -> bool:
        """The same before the upgrade is answered, also of calls that are not known here. Returns soon, and without a
        checkpoint for those that are. If cancelled: no effect."""
        ...

    async def attach(
        self, call_sid: str, generation: int, transport: Transport, codec: TwilioCodec, started: StreamStarted
    ) -> Attached | None:
        """The stream is there, and the call's from now on. None: it was refused, and its socket is closed. Marks the
        generation as used before its first await.

        If cancelled: the stream is dead; the call is not.
        """
        ...

    def bad_input(self, call_sid: str, reason: str) -> None:
        """Count bad input on a call's socket that is not attached; the call's first is reported. No checkpoint."""
        ...

    def snapshot(self) -> Sequence[Mapping[str, Any]]:
        """Live calls and their trees, for operators: one JSON object each, without numbers and words."""
        ...
