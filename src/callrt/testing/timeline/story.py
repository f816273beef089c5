"""What happened in one call, as values: the input of :func:`callrt.testing.timeline.render`.

All times are seconds from the beginning of the story, on the clock of the two recordings: ``caller_audio[8000]``
was said, and ``heard_audio[8000]`` heard, at 1.0. Texts are plain; the page escapes them.
"""

from __future__ import annotations

from typing import Literal

import attrs

ACTORS = ("call", "playback", "model", "carrier", "tools", "journal")
"""Lanes that are always shown, in this order; others follow as they come."""


@attrs.frozen
class Turn:
    """Something said. For the agent: the words as heard, placed where they were heard."""

    role: Literal["caller", "agent"]
    start: float
    end: float
    text: str
    interrupted: bool = False


@attrs.frozen
class Mark:
    """One of the carrier's marks: when it was written, and what became of it."""

    name: str
    sent: float
    heard: float | None = None
    """When its echo came; None: never."""
    flushed: bool = False
    """The echo was that of a clear, not of played audio."""


@attrs.frozen
class Event:
    """Something at one instant."""

    at: float
    kind: Literal["fault", "barge_in", "comfort", "recovered", "tool", "transfer", "stream", "end", "note"]
    title: str
    detail: str = ""


@attrs.frozen
class Bar:
    """One incarnation of an actor, or the time between two."""

    actor: str
    start: float
    end: float
    state: Literal["up", "restarting", "down"] = "up"
    label: str = ""
    """The incarnation's number, the reason of the restart: a few words."""


@attrs.frozen
class Span:
    """A stretch of what the caller heard, measured."""

    start: float
    end: float
    kind: Literal["dead_air", "comfort", "carrier_away", "model_away"]
    label: str = ""
    limit: float | None = None
    """Seconds allowed, for dead air."""


@attrs.frozen
class Guarantee:
    """One line of the verdict."""

    name: str
    """``G1``."""
    title: str
    held: bool | None
    """None: this call did not put it to the test."""
    figure: str = ""
    """What was measured: ``comfort after 212 ms``."""
    limit: str = ""
    """What was promised: ``≤ 300 ms``."""


@attrs.frozen
class Story:
    """One call, from the first ring to the last word."""

    call_sid: str
    agent: str
    outcome: str
    duration: float
    started_at: str = ""
    """RFC 3339, for the header."""
    title: str = "One phone call"
    caller_audio: bytes = b""
    """mu-law, 8 kHz: what the caller said."""
    heard_audio: bytes = b""
    """mu-law, 8 kHz: what the caller heard."""
    turns: tuple[Turn, ...] = ()
    marks: tuple[Mark, ...] = ()
    events: tuple[Event, ...] = ()
    bars: tuple[Bar, ...] = ()
    spans: tuple[Span, ...] = ()
    guarantees: tuple[Guarantee, ...] = ()
    faults_injected: int = 0
    faults_survived: int = 0
    footnote: str = ""
    """Seed and version: what is needed to make this call again."""
