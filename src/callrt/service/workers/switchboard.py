"""The parent's ear and mouth: it hears its workers, and passes questions and sockets to whoever has the call.

No checkpoint anywhere: what arrives is settled at once, and what is sent is queued. A worker that says nothing for
a while is passed over (its calls then find another home, and it finds out by its leases), and ended if it stays so.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Literal, Protocol

import attrs
import trio

from callrt.service.workers.homes import Homes
from callrt.service.workers.messages import (
    Answer,
    Beat,
    Carries,
    Declining,
    Dropped,
    FromParent,
    Knock,
    Leaving,
    Message,
    Question,
    Ready,
    SteppedBack,
    Tell,
    Theirs,
    Told,
    Whose,
    Yours,
)
from callrt.service.workers.totals import Totals

log = logging.getLogger("callrt.workers")

TICK_SECONDS = 0.5
SILENT_TICKS = 8
"""Four seconds without a beat: its callers hear nothing either, and the carrier waits for an answer."""
HOPELESS_TICKS = 60
"""Half a minute: its own watchdog should have ended it long ago."""
TELL_SECONDS = 2.5


class Line(Protocol):
    """How the parent speaks to one worker: see :class:`callrt.service.workers.channel.Channel`."""

    def send(self, message: FromParent, descriptor: int | None = None) -> bool: ...


@attrs.define(eq=False)
class Member:
    """One worker process, from its start to its end. ``number``: its place; ``serial``: never used twice."""

    number: int
    serial: int
    line: Line
    ready: trio.Event = attrs.field(factory=trio.Event)
    stepped_back: trio.Event = attrs.field(factory=trio.Event)
    declining: trio.Event = attrs.field(factory=trio.Event)
    wants_to_leave: trio.Event = attrs.field(factory=trio.Event)
    """Told to end by somebody else than its parent."""
    leaving: bool = False
    quiet_ticks: int = 0

    @property
    def silent(self) -> bool:
        return self.quiet_ticks >= SILENT_TICKS

    @property
    def state(self) -> str:
        """One word for operators."""
        if not self.ready.is_set():
            return "starting"
        return "silent" if self.silent else "leaving" if self.leaving else "ready"


@attrs.define
class _Asked:
    """A question under way."""

    asker: Member
    question: Question
    """As the asker sent it."""
    home: int


@attrs.define
class _Inquiry:
    missing: set[int]
    told: dict[int, Told] = attrs.field(factory=dict)
    complete: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False)
class Switchboard:
    """All workers that are there."""

    homes: Homes = attrs.field(factory=Homes)
    totals: Totals = attrs.field(factory=Totals)
    members: dict[int, Member] = attrs.field(factory=dict)
    _asked: dict[int, _Asked] = attrs.field(factory=dict)
    _inquiries: dict[int, _Inquiry] = attrs.field(factory=dict)
    _ids: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))

    # -- who is there -------------------------------------------------------------------------------------

    def joined(self, number: int, line: Line) -> Member:
        member = Member(number, self._id(), line)
        self.members[member.serial] = member
        return member

    def left(self, member: Member) -> None:
        """The process is gone. What it was asked is asked elsewhere."""
        if self.members.pop(member.serial, None) is None:
            return
        self.homes.gone(member.serial)
        self.totals.gone(member.serial)
        for number in [number for number, asked in self._asked.items() if asked.asker is member]:
            del self._asked[number]
        self._ask_elsewhere(member)
        for inquiry in self._inquiries.values():
            _settle(inquiry, member.serial, None)

    def tick(self) -> list[Member]:
        """Half a second has passed. Returns the hopeless."""
        for member in list(self.members.values()):
            if member.ready.is_set():
                member.quiet_ticks += 1
                if member.quiet_ticks == SILENT_TICKS:
                    log.error("a worker is silent", extra={"worker": member.number})
                    self._ask_elsewhere(member)
        return [member for member in self.members.values() if member.quiet_ticks >= HOPELESS_TICKS]

    @property
    def ready(self) -> list[Member]:
        return [member for member in self.members.values() if member.ready.is_set()]

    def _taking_calls(self) -> list[int]:
        return [
            serial
            for serial, member in self.members.items()
            if member.ready.is_set() and not member.leaving and not member.silent
        ]

    def _home(self, call_sid: str, asker: Member) -> Member:
        leaving = [serial for serial, member in self.members.items() if member.leaving and not member.silent]
        home = self.homes.place(call_sid, self._taking_calls(), leaving=leaving, asker=asker.serial)
        return self.members[home]

    # -- what they say ------------------------------------------------------------------------------------

    def hear(self, member: Member, message: Message, descriptor: int | None) -> None:
        """One message of one worker. ``descriptor`` comes with a knock and with nothing else."""
        member.quiet_ticks = 0
        match message:
            case Beat(families):
                if families:
                    self.totals.told(member.serial, families)
            case Whose(number, call_sid):
                mine = self._home(call_sid, member) is member
                member.line.send(Yours(number) if mine else Theirs(number))
            case Question():
                self._ask(_Asked(member, message, 0))
            case Answer(number):
                self._answered(number, message)
            case Knock(call_sid):
                home = self._home(call_sid, member)
                if not home.line.send(message, descriptor):
                    log.warning("a media socket could not be passed on", extra={"worker": home.number})
            case Carries(call_sid):
                self.homes.carries(member.serial, call_sid)
            case Dropped(call_sid, ended):
                self.homes.dropped(member.serial, call_sid, ended=ended)
            case Told(number):
                if (inquiry := self._inquiries.get(number)) is not None:
                    _settle(inquiry, member.serial, message)
                if message.families:
                    self.totals.told(member.serial, message.families)
            case Ready():
                member.ready.set()
            case SteppedBack():
                member.stepped_back.set()
            case Declining():
                member.declining.set()
            case Leaving():
                member.leaving = True
                member.wants_to_leave.set()
            case _:
                log.error("a worker says what only a parent says", extra={"worker": member.number})

    def _ask(self, asked: _Asked) -> None:
        home = self._home(asked.question.call_sid, asked.asker)
        if home is asked.asker:
            asked.asker.line.send(Yours(asked.question.id))
            return
        asked.home = home.serial
        number = self._id()
        self._asked[number] = asked
        home.line.send(_numbered(asked.question, number))

    def _ask_elsewhere(self, gone: Member) -> None:
        waiting = [number for number, asked in self._asked.items() if asked.home == gone.serial]
        for asked in [self._asked.pop(number) for number in waiting]:
            self._ask(asked)

    def _answered(self, number: int, answer: Answer) -> None:
        asked = self._asked.pop(number, None)
        if asked is not None:
            own = Answer(asked.question.id, answer.status, answer.body, answer.content_type)
            asked.asker.line.send(own)

    # -- what we ask them ---------------------------------------------------------------------------------

    async def inquire(self, what: Literal["metrics", "calls", "readiness"]) -> list[tuple[Member, Told]]:
        """What each worker that answers in time says, by their places. If cancelled: no effect."""
        asked = {member.serial for member in self.ready if not member.silent}
        if not asked:
            return []
        number = self._id()
        inquiry = self._inquiries[number] = _Inquiry(asked)
        try:
            for serial in sorted(asked):
                self.members[serial].line.send(Tell(number, what))
            with trio.move_on_after(TELL_SECONDS):
                await inquiry.complete.wait()
        finally:
            del self._inquiries[number]
        told = [
            (self.members[serial], each) for serial, each in inquiry.told.items() if serial in self.members
        ]
        return sorted(told, key=lambda pair: pair[0].number)

    def _id(self) -> int:
        return next(self._ids)


def _numbered(question: Question, number: int) -> Question:
    return Question(number, question.call_sid, question.path, question.fields)


def _settle(inquiry: _Inquiry, serial: int, told: Told | None) -> None:
    inquiry.missing.discard(serial)
    if told is not None:
        inquiry.told[serial] = told
    if not inquiry.missing:
        inquiry.complete.set()
