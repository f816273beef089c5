"""The tracks: everything that lies on the time axis. Places are given as seconds; CSS makes them percent."""

from __future__ import annotations

import math
from html import escape

from callrt.testing.timeline.story import ACTORS, Bar, Event, Mark, Span, Story, Turn
from callrt.testing.timeline.text import clock, number, span, tip
from callrt.testing.timeline.waveform import columns, outline

FLAG_ROWS = 3
MARKS_MAX = 3_000
"""More would be a grey bar, and slow."""

EVENT_WORDS = {
    "fault": "Fault",
    "barge_in": "Barge-in",
    "comfort": "Comfort line",
    "recovered": "Recovered",
    "tool": "Tool",
    "transfer": "Transfer",
    "stream": "Stream",
    "end": "End",
    "note": "Note",
}


def lanes(story: Story) -> tuple[str, ...]:
    others = dict.fromkeys(bar.actor for bar in story.bars if bar.actor not in ACTORS)
    return (*ACTORS, *others)


def names(story: Story) -> str:
    """The labels left of the tracks."""
    actors = "".join(f'<div class="name lane">{escape(actor)}</div>' for actor in lanes(story))
    return (
        '<div class="name ruler"></div><div class="name flags">Events</div>'
        '<div class="name voice caller"><b>Caller</b><small>said</small></div>'
        '<div class="name voice heard"><b>Agent</b><small>as heard</small></div>'
        f'<div class="name marks">Marks</div>{actors}'
    )


def tracks(story: Story) -> str:
    lines = "".join(
        f'<i class="bolt {event.kind}" style="--t:{number(event.at)}"></i>'
        for event in story.events
        if event.kind in ("fault", "barge_in")
    )
    actors = "".join(_lane(story, actor) for actor in lanes(story))
    return (
        f'<div class="track ruler">{_ruler(story.duration)}</div>'
        f'<div class="track flags">{_flags(story)}</div>'
        f'<div class="track voice caller">{_voice(story, "caller", story.caller_audio)}</div>'
        f'<div class="track voice heard">{_voice(story, "agent", story.heard_audio)}</div>'
        f'<div class="track marks">{_marks(story.marks)}</div>'
        f"{actors}{lines}"
    )


def scale(duration: float) -> tuple[int, int, int]:
    """Seconds between the ruler's small, middle and large ticks: never more than a few hundred in all."""
    steps = ((1, 5, 10), (5, 15, 60), (15, 60, 300), (60, 300, 600))
    return next((step for step in steps if duration / step[0] <= 400), steps[-1])


def _ruler(duration: float) -> str:
    """Ticks of four levels; the largest always has room for its words, the others where the zoom gives it."""
    small, middle, large = scale(duration)
    largest = large * max(1, math.ceil(duration / large / 16))
    ticks = []
    for second in range(0, int(duration) + 1, small):
        level = 4 if second % largest == 0 else 3 if second % large == 0 else 2 if second % middle == 0 else 1
        label = clock(second)[:-2]
        ticks.append(f'<i class="tick l{level}" style="--t:{second}"><b>{label}</b></i>')
    return "".join(ticks)


def _flags(story: Story) -> str:
    """Events as flags; those too near to each other take the next row."""
    near = max(0.25, story.duration * 0.018)
    last = [-1e9] * FLAG_ROWS
    flags = []
    for event in sorted(story.events, key=lambda e: e.at):
        row = next((r for r in range(FLAG_ROWS) if event.at - last[r] >= near), last.index(min(last)))
        last[row] = event.at
        flags.append(
            f'<button type="button" class="flag {event.kind}" style="--t:{number(event.at)};--row:{row}" '
            f'data-seek="{number(event.at)}" {_event_tip(event)}>'
            f'<svg class="icon"><use href="#i-{event.kind}"/></svg></button>'
        )
    return "".join(flags)


def _event_tip(event: Event) -> str:
    return tip(f"{EVENT_WORDS[event.kind]} · {clock(event.at)}", event.title, event.detail)


def _voice(story: Story, role: str, audio: bytes) -> str:
    width = columns(story.duration)
    wave = (
        f'<svg class="wave" viewBox="0 0 {width} 200" preserveAspectRatio="none" aria-hidden="true">'
        f'<linearGradient id="ink-{role}" gradientUnits="userSpaceOnUse" x1="0" x2="{width}">'
        f"{_ink(story, role)}</linearGradient>"
        f'<path fill="url(#ink-{role})" d="{outline(audio, story.duration)}"/></svg>'
    )
    turns = "".join(_turn(turn) for turn in story.turns if turn.role == role)
    spans = "".join(_span(item) for item in story.spans if _lies_on(item, role))
    return f'{spans}{wave}<div class="turns">{turns}</div>'


def _ink(story: Story, role: str) -> str:
    """The wave's colour along the time: a comfort line is in our own, not in the agent's."""
    edges = [(0.0, "theirs")]
    for item in sorted(story.spans, key=lambda s: s.start):
        if item.kind == "comfort" and role == "agent" and item.end > item.start:
            edges += [(item.start, "ours"), (item.end, "theirs")]
    stops = []
    for (at, ink), (until, _) in zip(edges, [*edges[1:], (story.duration, "")], strict=True):
        for place in (at, until):
            stops.append(f'<stop class="{ink}" offset="{min(1.0, place / max(story.duration, 0.001)):.5f}"/>')
    return "".join(stops)


def _lies_on(item: Span, role: str) -> bool:
    return role == "agent" or item.kind == "carrier_away"


def _turn(turn: Turn) -> str:
    who = "Caller" if turn.role == "caller" else "Agent"
    length = max(0.0, turn.end - turn.start)
    cut = " · interrupted" if turn.interrupted else ""
    return (
        f'<button type="button" class="turn{" cut" if turn.interrupted else ""}" '
        f'style="--t:{number(turn.start)};--d:{number(length)}" data-seek="{number(turn.start)}" '
        f"{tip(f'{who} · {clock(turn.start)} · {span(length)}{cut}', turn.text)}>"
        f"<span>{escape(turn.text)}</span></button>"
    )


SPAN_WORDS = {
    "dead_air": "Dead air",
    "comfort": "Comfort line",
    "carrier_away": "Carrier's stream away",
    "model_away": "Model away",
}


def _span(item: Span) -> str:
    length = max(0.0, item.end - item.start)
    over = item.limit is not None and length > item.limit + 1e-9
    allowed = f"allowed: {span(item.limit)}" if item.limit is not None else ""
    label = item.label or (span(length) if item.kind == "dead_air" else "")
    return (
        f'<div class="span {item.kind}{" over" if over else ""}" tabindex="0" role="img" '
        f'style="--t:{number(item.start)};--d:{number(length)}" '
        f"{tip(f'{SPAN_WORDS[item.kind]} · {clock(item.start)} · {span(length)}', item.label, allowed)}>"
        f"<b>{escape(label)}</b></div>"
    )


def _marks(marks: tuple[Mark, ...]) -> str:
    ticks = []
    for mark in marks[:MARKS_MAX]:
        if mark.heard is None:
            state, end, words = "lost", mark.sent, "never echoed"
        else:
            state, end = ("flushed" if mark.flushed else "played"), mark.heard
            words = f"{'flushed' if mark.flushed else 'heard'} at {clock(end)}, {span(end - mark.sent)} later"
        ticks.append(
            f'<i class="mark {state}" style="--t:{number(mark.sent)};--d:{number(max(0.0, end - mark.sent))}" '
            f"{tip(f'Mark {mark.name} · sent {clock(mark.sent)}', words)}></i>"
        )
    return "".join(ticks)


BAR_WORDS = {"up": "runs", "restarting": "restarting", "down": "down"}


def _lane(story: Story, actor: str) -> str:
    mine = sorted((bar for bar in story.bars if bar.actor == actor), key=lambda bar: bar.start)
    starts = [*(bar.start for bar in mine), story.duration][1:] if mine else []
    # A short bar's label may stand beside it when nothing else does for a while.
    bars = "".join(
        _bar(bar, following - bar.end > 0.1 * story.duration)
        for bar, following in zip(mine, starts, strict=True)
    )
    return f'<div class="track lane">{bars}</div>'


def _bar(bar: Bar, roomy: bool) -> str:
    length = max(0.0, bar.end - bar.start)
    line = f"{bar.actor} {BAR_WORDS[bar.state]} · {clock(bar.start)} – {clock(bar.end)} · {span(length)}"
    return (
        f'<div class="bar {bar.state}{" roomy" if roomy else ""}" tabindex="0" role="img" '
        f'style="--t:{number(bar.start)};--d:{number(length)}" {tip(line, bar.label)}>'
        f"<b>{escape(bar.label)}</b></div>"
    )
