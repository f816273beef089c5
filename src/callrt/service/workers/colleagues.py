"""A worker's side of the line to its parent: whose call is this, and what the others are asked of ours.

When the parent does not answer, or is gone, this worker answers by itself, as one of several services that share
a journal would: the lease decides.
"""

from __future__ import annotations

import itertools
import logging
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import attrs
import trio

from callrt.policy import facts
from callrt.policy.facts import Fact
from callrt.service.forms import Form
from callrt.service.http import HttpResponse
from callrt.service.workers.channel import Channel, ChannelClosed
from callrt.service.workers.messages import (
    Answer,
    Beat,
    Carries,
    Drain,
    Dropped,
    FromWorker,
    Knock,
    Message,
    Question,
    StepBack,
    Tell,
    Theirs,
    Told,
    Whose,
    Yours,
)

log = logging.getLogger("callrt.workers")

BEAT_SECONDS = 1.0
WHOSE_SECONDS = 2.0
"""The parent answers within a millisecond, or it stands still."""
ANSWER_SECONDS = 11.0
"""Above what a worker takes for an answer, below what a carrier waits."""


@attrs.define
class _Waiting:
    reply: Message | None = None
    there: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False)
class Colleagues:
    """Implements :class:`callrt.service.elsewhere.Elsewhere`. The callables are the worker's own answers, and are
    set before :meth:`run`."""

    channel: Channel
    answer: Callable[[str, Form], Awaitable[HttpResponse]] = attrs.field(init=False)
    """A signed webhook by path, about a call of ours."""
    adopt: Callable[[trio.abc.Stream, bytes], Awaitable[None]] = attrs.field(init=False)
    """A media socket that another worker accepted."""
    tell: Callable[[Tell], Awaitable[Told]] = attrs.field(init=False)
    orders: deque[StepBack | Drain | None] = attrs.field(factory=deque, init=False)
    """What the parent wants of the whole worker. None: it is gone, and with it whoever knew whose call is whose."""
    ordered: trio.Event = attrs.field(factory=trio.Event, init=False)
    _here: dict[str, None] = attrs.field(factory=dict, init=False)
    _waiting: dict[int, _Waiting] = attrs.field(factory=dict, init=False)
    _ids: Iterator[int] = attrs.field(factory=lambda: itertools.count(1), init=False)

    # -- what the worker's ports ask ----------------------------------------------------------------------

    async def ask(self, call_sid: str, path: str, form: Form) -> HttpResponse | None:
        """See :class:`Elsewhere`."""
        if await self._is_ours(call_sid):
            return None
        number = next(self._ids)
        reply = await self._call(Question(number, call_sid, path, form.fields), number, ANSWER_SECONDS)
        if isinstance(reply, Answer):
            return HttpResponse(reply.status, reply.body, reply.content_type)
        return None

    async def pass_on(self, call_sid: str, stream: trio.abc.Stream, head: bytes) -> bool:
        """See :class:`Elsewhere`."""
        if not isinstance(stream, trio.SocketStream) or await self._is_ours(call_sid):
            return False
        return self.channel.send(Knock(call_sid, head), os.dup(stream.socket.fileno()))

    def observe(self, fact: Fact) -> None:
        """Hear of calls as they come and go. No checkpoint."""
        match fact:
            case facts.CallStarted(call_sid):
                self._here[call_sid] = None
                self.say(Carries(call_sid))
            case facts.CallEnded(_, call_sid):
                self._here.pop(call_sid, None)
                self.say(Dropped(call_sid, True))
            case facts.CallReleased(call_sid):
                self._here.pop(call_sid, None)
                self.say(Dropped(call_sid, False))

    def settled(self, call_sid: str) -> None:
        """See :class:`Elsewhere`: the parent counts a call with whom it gave it to."""
        if call_sid not in self._here:
            self.say(Dropped(call_sid, False))

    def say(self, message: FromWorker) -> bool:
        """False: nobody hears it. No checkpoint."""
        return self.channel.send(message)

    async def _is_ours(self, call_sid: str) -> bool:
        number = next(self._ids)
        return not isinstance(await self._call(Whose(number, call_sid), number, WHOSE_SECONDS), Theirs)

    async def _call(self, message: FromWorker, number: int, seconds: float) -> Message | None:
        """The reply; None when there is none."""
        if not self.say(message):
            return None
        waiting = self._waiting[number] = _Waiting()
        try:
            with trio.move_on_after(seconds):
                await waiting.there.wait()
        finally:
            del self._waiting[number]
        if waiting.reply is None and not self.channel.closed:
            log.error("the parent does not answer", extra={"seconds": seconds})
        return waiting.reply

    # -- what the parent wants --------------------------------------------------------------------------

    async def next_order(self) -> StepBack | Drain | None:
        """If cancelled: no effect."""
        while not self.orders:
            self.ordered = trio.Event()
            await self.ordered.wait()
        return self.orders.popleft()

    def _order(self, order: StepBack | Drain | None) -> None:
        self.orders.append(order)
        self.ordered.set()

    # -- what the parent asks -----------------------------------------------------------------------------

    async def run(
        self, ctx: Any = None, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Start function: listen to the parent until cancelled. Sockets that were adopted live on after the parent.
        If cancelled: they are dead."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.channel.run)
            nursery.start_soon(self._beat)
            task_status.started()
            try:
                while True:
                    message, descriptor = await self.channel.receive()
                    self._heed(nursery, message, descriptor)
            except ChannelClosed:
                log.error("the parent is gone")
            self.channel.closed = True
            for waiting in self._waiting.values():
                waiting.there.set()
            self._order(None)
            await trio.sleep_forever()

    async def _beat(self) -> None:
        while not self.channel.closed:
            told = await self.tell(Tell(0, "metrics"))
            self.say(Beat(told.families))
            await trio.sleep(BEAT_SECONDS)

    def _heed(self, nursery: trio.Nursery, message: Message, descriptor: int | None) -> None:
        match message:
            case Yours(number) | Theirs(number) | Answer(number):
                if (waiting := self._waiting.get(number)) is not None:
                    waiting.reply = message
                    waiting.there.set()
            case Question():
                nursery.start_soon(self._answer, message)
            case Knock(call_sid, head) if descriptor is not None:
                nursery.start_soon(self._adopt, call_sid, head, descriptor)
            case Tell():
                nursery.start_soon(self._tell, message)
            case StepBack() | Drain():
                self._order(message)
            case _:
                log.error("the parent says what only a worker says")

    async def _answer(self, question: Question) -> None:
        try:
            response = await self.answer(question.path, Form(question.fields))
        except Exception:
            # The boundary of a question, as of a request: its failure must not reach other calls.
            log.exception("request failed")
            response = HttpResponse.sentence(500, "an error inside the server")
        self.settled(question.call_sid)
        self.say(Answer(question.id, response.status, response.body, response.content_type))

    async def _adopt(self, call_sid: str, head: bytes, descriptor: int) -> None:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor)))
        try:
            await self.adopt(stream, head)
        finally:
            await trio.aclose_forcefully(stream)
            self.settled(call_sid)

    async def _tell(self, tell: Tell) -> None:
        told = await self.tell(tell)
        told.id = tell.id
        self.say(told)
