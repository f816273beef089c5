"""From a performance to its verdict: which checker looks at what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from callrt.protocol.uplink import BYTES_PER_MS
from callrt.testing.carrier_stream import TICK_SECONDS
from callrt.testing.demo import checks
from callrt.testing.demo.hearing import FRAME_MS, Hearing, Spoken, listen
from callrt.testing.demo.plot import Exchange
from callrt.testing.demo.stage import Performance
from callrt.testing.timeline.story import Guarantee

COMFORT_AFTER_MS = 300
RECOVERY_SECONDS = 20.0
"""``model_give_up_seconds``: past that there is an apology and no recovery."""

CARRIER_RETURN_SECONDS = 15.0


def judge(seen: Performance) -> tuple[Guarantee, ...]:
    """Each guarantee that this play has put to the test."""
    hearing = listen(seen.heard, seen.spoken)
    found: list[Guarantee] = []
    if seen.model_losses:
        found += _model(seen, hearing)
    if seen.stream_losses:
        found += _carrier(seen, hearing)
    if seen.kills:
        found += _process(seen, hearing)
    if any(exchange.interrupted for exchange in seen.plot.exchanges):
        clears = [event.at for event in seen.wire if event.kind == "clear"]
        found.append(checks.clear_in_time(seen.speech_started, clears, waited=seen.waits))
        found.append(checks.told_is_heard(seen.spoken, heard_ms(seen, hearing)))
    found += _tools(seen, hearing)
    found += _faults_missing(seen)
    found.append(checks.nothing_left(seen.live, seen.idle_files, seen.files))
    found.append(checks.ended_with_outcome(seen.show))
    found.append(checks.drained(seen.exit_status))
    carrier_refused = [alert.text for alert in seen.alerts if alert.code in (31950, 31951)]
    found.append(checks.nothing_refused(carrier_refused, seen.refused))
    said = [words.text for words in seen.said] + [item.text for item in seen.spoken]
    found.append(checks.secrets_kept(seen.log, seen.secrets, said))
    return tuple(sorted(found, key=lambda one: int(one.name[1:])))


def _model(seen: Performance, hearing: Hearing) -> list[Guarantee]:
    lost_at = seen.model_losses[0]
    comfort, _ = checks.comfort_in_time(seen.heard, lost_at, seen.comfort, COMFORT_AFTER_MS, seen.waits)
    exchange = _struck(seen, "model")
    items = items_of(seen.spoken, exchange.answer)
    after = [at for p, ats in hearing.times.items() if seen.spoken[p.item].session > 1 for at in ats]
    across = "across the loss of the model"
    said = pieces(seen, hearing, items)
    return [
        comfort,
        checks.model_recovered(after, lost_at, RECOVERY_SECONDS),
        checks.heard_once("G1", f"Heard twice {across}", hearing, items),
        checks.none_lost("G1", f"Never heard {across}", hearing, seen.spoken, items, ()),
        checks.words_once("G1", "The cut answer, taken up again", exchange.answer, said),
    ]


def _carrier(seen: Performance, hearing: Hearing) -> list[Guarantee]:
    items = items_of(seen.spoken, _struck(seen, "carrier").answer)
    across = "across the carrier's return"
    begins = [event.at for event in seen.wire if event.kind == "start"]
    return [
        checks.stream_returned(seen.stream_losses[0], begins, CARRIER_RETURN_SECONDS),
        checks.session_stayed([seen.spoken[item].session for item in items]),
        checks.heard_once("G2", f"Heard twice {across}", hearing, items),
        checks.none_lost("G2", f"Never heard {across}", hearing, seen.spoken, items, ()),
    ]


def _process(seen: Performance, hearing: Hearing) -> list[Guarantee]:
    killed_at = seen.kills[0]
    exchange = _struck(seen, "process")
    items = items_of(seen.spoken, exchange.answer)
    after = [at for ats in hearing.times.values() for at in ats if at > killed_at + 0.5]
    gap = min(after) - killed_at if after else None
    said_before = [words.text for words in seen.said if words.end < killed_at]
    title, most = "The cut answer, taken up again", checks.WORDS_TWICE_AFTER_KILL_MAX
    return [
        checks.revived(seen.show, len(seen.kills), gap, said_before),
        checks.words_once("G3", title, exchange.answer, pieces(seen, hearing, items), most),
    ]


def _tools(seen: Performance, hearing: Hearing) -> list[Guarantee]:
    found: list[Guarantee] = []
    expected: list[str] = []
    for exchange in seen.plot.exchanges:
        if exchange.tool is None or exchange.tool.name == "end_call":
            continue
        expected.append(exchange.effect)
        if exchange.sorry and seen.plot.broken(exchange):
            items = items_of(seen.spoken, exchange.sorry)
            words = [word for piece in pieces(seen, hearing, items) for word in piece]
            found.append(
                checks.tool_failed_softly(seen.show["tools"], exchange.tool.name, words, exchange.sorry)
            )
    if expected:
        name = "G3" if seen.kills else "G5"
        found.append(checks.effects_once(seen.effects, expected, name=name))
    return found


def _faults_missing(seen: Performance) -> list[Guarantee]:
    """A fault that did not strike proves nothing; an answer that was not heard to its end is a failure."""
    struck = {"model": seen.model_losses, "carrier": seen.stream_losses, "process": seen.kills}
    planned = [e.strikes for e in seen.plot.exchanges if seen.plot.broken(e) and e.strikes in struck]
    absent = [what for what in planned if not struck[what]]
    found = []
    if absent:
        found.append(Guarantee("G0", "Faults that did not strike", False, ", ".join(absent), "none"))
    if seen.missed:
        found.append(Guarantee("G0", "Answers not heard to their end", False, "; ".join(seen.missed), "none"))
    return found


# -- what belongs together ---------------------------------------------------------------------------------


def _struck(seen: Performance, what: str) -> Exchange:
    return next(exchange for exchange in seen.plot.exchanges if exchange.strikes == what)


def items_of(spoken: Sequence[Spoken], line: str) -> list[int]:
    """The items that say ``line`` or the rest of it, in order."""
    return [number for number, item in enumerate(spoken) if item.text and line.endswith(item.text)]


def pieces(seen: Performance, hearing: Hearing, items: Sequence[int]) -> list[list[str]]:
    """What was heard of each item, in words."""
    heard = heard_ms(seen, hearing)
    found = [seen.spoken[item].words_until(heard.get(item, 0)) for item in items]
    return [words for words in found if words]


def heard_ms(seen: Performance, hearing: Hearing) -> Mapping[int, int]:
    """How much of each item was heard, its silent frames behind the last audible one included, as far as the
    carrier had something to play and the model had sent it: another sound may begin with silence, too."""
    last = {}
    for place, times in hearing.times.items():
        if place.frame * FRAME_MS + FRAME_MS == hearing.heard_ms(place.item):
            last[place.item] = max(times)
    ends = {}
    for item, at in last.items():
        first = round((at - seen.began) / TICK_SECONDS) + 1
        quiet = 0
        for frame in seen.heard[first:]:
            if not frame.agent_bytes or frame.frame.strip(b"\xff"):
                break
            quiet += 1
        heard = hearing.heard_ms(item)
        ends[item] = max(heard, min(heard + quiet * FRAME_MS, len(seen.spoken[item].audio) // BYTES_PER_MS))
    return ends
