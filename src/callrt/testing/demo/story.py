"""From a performance to the page that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from callrt import __version__
from callrt.testing.demo import checks
from callrt.testing.demo.hearing import Hearing, listen
from callrt.testing.demo.stage import Performance
from callrt.testing.demo.verdict import COMFORT_AFTER_MS, heard_ms
from callrt.testing.timeline.story import Bar, Event, Guarantee, Mark, Span, Story, Turn

AWAY_SECONDS_MIN = 0.005


def tell_story(seen: Performance, guarantees: Sequence[Guarantee]) -> Story:
    """Times of the page are seconds since the caller could first hear something."""
    teller = _Teller(seen)
    struck = sum(seen.plot.broken(exchange) for exchange in seen.plot.exchanges)
    return Story(
        call_sid=seen.call_sid,
        agent=str(seen.show["agent"]),
        outcome=str(seen.show["outcome"]),
        duration=seen.seconds,
        started_at=str(seen.show["started_at"] or ""),
        title="One phone call" if seen.plot.what == "none" else "One phone call, broken and rescued",
        caller_audio=seen.caller_audio,
        heard_audio=seen.heard_audio,
        turns=teller.turns(),
        marks=teller.marks(),
        events=teller.events(),
        bars=teller.bars(),
        spans=teller.spans(),
        guarantees=tuple(guarantees),
        faults_injected=struck,
        faults_survived=struck if all(g.held for g in guarantees) else 0,
        footnote=f"callrt {__version__} · callrt demo --break {seen.plot.what} --seed {seen.plot.seed}",
    )


class _Teller:
    def __init__(self, seen: Performance) -> None:
        self._seen = seen
        self._hearing: Hearing = listen(seen.heard, seen.spoken)
        self._comfort: tuple[float, float] | None = None
        if seen.model_losses:
            _, span = checks.comfort_in_time(seen.heard, seen.model_losses[0], seen.comfort, COMFORT_AFTER_MS)
            self._comfort = None if span is None else (self._at(span[0]), self._at(span[1]))

    def _at(self, clock: float) -> float:
        return min(max(0.0, clock - self._seen.began), self._seen.seconds)

    def _wall(self, moment: str | None) -> float:
        """A time of ``calls show``; the end of the call for None."""
        if moment is None:
            return self._seen.seconds
        unix = datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
        return self._at(unix - self._seen.unix)

    def turns(self) -> tuple[Turn, ...]:
        heard = heard_ms(self._seen, self._hearing)
        found = [Turn("caller", self._at(s.start), self._at(s.end), s.text) for s in self._seen.said]
        for number, item in enumerate(self._seen.spoken):
            span = self._hearing.span(number)
            words = " ".join(item.words_until(heard.get(number, 0)))
            if span is not None and words:
                cut = item.truncated_ms is not None
                found.append(Turn("agent", self._at(span[0]), self._at(span[1]), words, interrupted=cut))
        return tuple(sorted(found, key=lambda turn: turn.start))

    def marks(self) -> tuple[Mark, ...]:
        clears = {(event.stream, event.at) for event in self._seen.wire if event.kind == "clear"}
        echoes = {(e.stream, e.detail): e.at for e in self._seen.wire if e.kind == "mark" and e.sent}
        found = []
        for event in self._seen.wire:
            if event.kind == "mark" and not event.sent:
                echo = echoes.get((event.stream, event.detail))
                flushed = (event.stream, echo) in clears
                heard = None if echo is None else self._at(echo)
                found.append(Mark(event.detail, self._at(event.at), heard, flushed))
        return tuple(found)

    def events(self) -> tuple[Event, ...]:
        seen = self._seen
        found = [
            Event(self._at(at), "fault", "The model closes its session in mid-sentence", "code 1011")
            for at in seen.model_losses
        ]
        found += [Event(self._at(at), "fault", "The carrier's stream is reset") for at in seen.stream_losses]
        found += [Event(self._at(at), "fault", "kill -9 of the server's process") for at in seen.kills]
        found += [Event(self._at(at), "recovered", "A new process has the journal") for at in seen.revivals]
        found += [
            Event(self._at(e.at), "barge_in", "The caller interrupts", f"{e.size // 8} ms unheard")
            for e in seen.wire
            if e.kind == "clear"
        ]
        found += [
            Event(self._at(e.at), "stream", f"Media stream {e.stream} begins")
            for e in seen.wire
            if e.kind == "start"
        ]
        if self._comfort is not None:
            found.append(
                Event(self._comfort[0], "comfort", "One moment please", "bundled line, no model needed")
            )
        for number, session in enumerate(seen.show["model_sessions"][1:], 2):
            found.append(Event(self._wall(session["opened_at"]), "recovered", f"Model session {number}"))
        for tool in seen.show["tools"]:
            failed = tool["status"] != "ok"
            kind: Any = "fault" if failed else "tool"
            at = self._wall(tool["ended_at"])
            found.append(Event(at, kind, f"Tool {tool['name']}: {tool['status']}"))
        found.append(Event(seen.seconds, "end", str(seen.show["outcome"]).replace("_", " ")))
        return tuple(sorted(found, key=lambda event: event.at))

    def bars(self) -> tuple[Bar, ...]:
        end = self._seen.seconds
        show = self._seen.show
        lives = self._lives()
        bars: list[Bar] = []
        for actor in ("call", "playback", "tools", "journal"):
            restarts = [self._wall(r["at"]) for r in show["restarts"] if r["actor"] == actor]
            count = 0
            for number, (begin, until) in enumerate(lives, 1):
                cuts = [begin, *(at for at in restarts if begin < at < until), until]
                for left, right in pairwise(cuts):
                    count += 1
                    label = f"process {number}" if len(lives) > 1 and actor == "call" else str(count)
                    bars.append(Bar(actor, left, right, "up", label))
            bars += [Bar(actor, a[1], b[0], "down", "killed") for a, b in pairwise(lives)]
        sessions = [
            (self._wall(s["opened_at"]), self._wall(s["ended_at"]), str(s["reason"] or ""))
            for s in show["model_sessions"]
        ]
        streams = [
            (self._wall(s["attached_at"]), self._wall(s["detached_at"]), str(s["reason"] or ""))
            for s in show["streams"]
        ]
        bars += self._parts("model", sessions, "session", lives)
        bars += self._parts("carrier", streams, "stream", lives)
        return tuple(bar for bar in bars if min(bar.end, end) > bar.start)

    def _lives(self) -> list[tuple[float, float]]:
        """From when to when a process had the call."""
        starts = [0.0, *(self._at(at) for at in self._seen.revivals)]
        ends = [*(self._at(at) for at in self._seen.kills), self._seen.seconds]
        return list(zip(starts, ends, strict=False))

    def _parts(
        self,
        actor: str,
        parts: Sequence[tuple[float, float, str]],
        what: str,
        lives: Sequence[tuple[float, float]],
    ) -> list[Bar]:
        """Each part is up for its time; in the gaps the actor waits for the next one."""
        # A killed process cannot record an end.
        kills = [until for _, until in lives[:-1]]
        whole = [(begin, min([end, *(k for k in kills if k > begin)]), why) for begin, end, why in parts]
        bars = [Bar(actor, begin, end, "up", f"{what} {n}") for n, (begin, end, _) in enumerate(whole, 1)]
        for (_, end, why), (begin, _, _) in pairwise(whole):
            if begin - end >= AWAY_SECONDS_MIN:
                label = "killed" if any(abs(end - kill) < 0.05 for kill in kills) else why
                bars.append(Bar(actor, end, begin, "restarting", label))
        return bars

    def spans(self) -> tuple[Span, ...]:
        seen = self._seen
        found: list[Span] = []
        if self._comfort is not None:
            found.append(Span(*self._comfort, "comfort", "One moment please"))
            found.append(self._dead_air(self._comfort[0], COMFORT_AFTER_MS / 1000))
        sounds = sorted(at for ats in self._hearing.times.values() for at in ats)
        for lost in (*seen.model_losses, *seen.kills):
            after = next((at for at in sounds if at > lost + 0.5 and self._is_new(at, lost)), None)
            if after is not None:
                kind: Any = "model_away" if lost in seen.model_losses else "carrier_away"
                found.append(Span(self._at(lost), self._at(after), kind))
        for lost in seen.stream_losses:
            begins = [e.at for e in seen.wire if e.kind == "start" and e.at > lost]
            if begins:
                found.append(Span(self._at(lost), self._at(min(begins)), "carrier_away"))
        for words in seen.said:
            after = next((at for at in sounds if at > words.end), None)
            if after is not None:
                found.append(Span(self._at(words.end), self._at(after), "dead_air"))
        return tuple(span for span in found if span.end > span.start)

    def _is_new(self, at: float, lost: float) -> bool:
        """The first sound of an item that was begun after the loss."""
        return any(
            span is not None and span[0] == at and span[0] > lost
            for span in (self._hearing.span(number) for number in range(len(self._seen.spoken)))
        )

    def _dead_air(self, until: float, limit: float) -> Span:
        sounds = [self._at(at) + 0.02 for ats in self._hearing.times.values() for at in ats]
        begin = max((at for at in sounds if at <= until + 1e-6), default=until)
        return Span(begin, until, "dead_air", limit=limit)
