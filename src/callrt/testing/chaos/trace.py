"""One broken call as text, on one clock: what the two peers saw, what the caller heard, what the journal says."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from callrt.testing.sim.case import name_of
from callrt.testing.sim.checkers import Judgement
from callrt.testing.sim.history import History

LINES_MAX = 4_000
QUIET = ("response.output_audio.delta", "response.output_audio_transcript.delta", "input_audio_buffer.append")


def trace(history: History, judgement: Judgement) -> str:
    """Seconds since the call was placed."""
    lines = sorted(_moments(history), key=lambda moment: moment[0])
    head = [f"{each.guarantee} {each.checker}: {each.what}" for each in judgement.violations]
    body = [f"{at - history.placed_at:9.3f}  {text}" for at, text in lines[:LINES_MAX]]
    return "\n".join([*head, "", *body]) + "\n"


def _moments(history: History) -> Iterator[tuple[float, str]]:
    for struck in history.struck:
        yield struck.at, f"FAULT    {name_of(struck.fault)} {struck.connection or ''}"
    for asked in history.asked:
        yield asked.began, f"CALLER   begins {asked.line}"
        yield asked.ended, f"CALLER   ends {asked.line}"
    for word in history.words:
        yield word.began, f"HEARD    {word.line} {word.index} ({word.part:.2f} of {word.ms} ms)"
    for line in history.bundled:
        yield line.at, f"HEARD    {line.name}"
    for event in history.call.wire:
        way = "->" if event.sent else "<-"
        yield (
            event.at,
            f"carrier  {way} stream {event.stream} {event.kind} {event.detail} {event.size or ''}".rstrip(),
        )
    for record in history.call.requests:
        yield record.at, f"webhook  {record.kind} {record.status} in {record.seconds:.3f} s"
    for session in history.sessions:
        name = f"model {session.connection}  "
        for said in session.said:
            if said.event["type"] not in QUIET:
                yield said.at, f"{name} -> {said.event['type']} {_brief(said.event)}"
        for told in session.told:
            if told.event["type"] not in QUIET:
                yield told.at, f"{name} <- {told.event['type']} {_brief(told.event)}"
    for entry in history.entries:
        at = history.committed.get(entry.number, entry.at - history.epoch)
        yield at, f"journal  {type(entry.record).__name__} {attrs_of(entry.record)}"


def _brief(event: dict[str, object]) -> str:
    left = {name: value for name, value in event.items() if name not in ("type", "event_id", "session")}
    return str(left)[:300] if left else ""


def attrs_of(record: object) -> str:
    if attrs.has(type(record)):
        return str(attrs.asdict(record))[:300]  # type: ignore[arg-type]
    return str(record)[:300]
