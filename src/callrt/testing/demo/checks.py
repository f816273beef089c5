"""The guarantees of a call, measured over what was heard at the caller's end and told at the model's.

Each checker is a function of its own and returns one line of the verdict. None of them knows how callrt
works; all of them can say no.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from callrt.protocol.audio import FRAME_BYTES
from callrt.testing.carrier_stream import TICK_SECONDS
from callrt.testing.carrier_tape import HeardFrame, is_audible
from callrt.testing.demo.hearing import FRAME_MS, Hearing, Spoken
from callrt.testing.timeline.story import Guarantee


class Waited(Protocol):
    """See :class:`callrt.testing.demo.waits.Waits`."""

    def between(self, start: float, end: float) -> float: ...


class NobodyWaited:
    """A machine with a processor for everybody."""

    def between(self, start: float, end: float) -> float:
        return 0.0


TOLD_ABOVE_MS = 20
TOLD_BELOW_MS = 600
CLEAR_MS = 20.0
WORDS_TWICE_MAX = 2
"""A model does not say where in its audio its words are: callrt reckons by the pace of speech, on the safe
side, and a word that was cut in its middle is said again from its start."""
WORDS_TWICE_AFTER_KILL_MAX = 4
"""A killed process takes along what it had not written yet: up to 250 ms of the transcript, and a mark."""


def comfort_in_time(
    heard: Sequence[HeardFrame],
    lost_at: float,
    line: bytes,
    limit_ms: int,
    waited: Waited = NobodyWaited(),  # noqa: B008 (it has no state)
) -> tuple[Guarantee, tuple[float, float] | None]:
    """G1: the silence that the caller hears before the comfort line, and when that line was heard.

    Silence counts from the last audible frame, or from the loss if that came later.
    """
    title = "Silence before the comfort line"
    limit = f"≤ {limit_ms} ms"
    first, frame = first_audible(line)
    begins = [h.at for h in heard if h.at > lost_at and h.source == "stream" and h.frame == frame]
    if not begins:
        return Guarantee("G1", title, False, "it was not heard", limit), None
    sounds = [h.at + TICK_SECONDS for h in heard if h.at < begins[0] and is_audible(h.frame)]
    # The line's own silent lead-in is silence to the caller.
    quiet_from = max(lost_at, max(sounds, default=lost_at))
    ms = max(0.0, (begins[0] - quiet_from) * 1000)
    starved = waited.between(quiet_from, begins[0]) * 1000 if ms > limit_ms else 0.0
    span = (begins[0], begins[0] + (len(line) // FRAME_BYTES - first) * TICK_SECONDS)
    return Guarantee("G1", title, ms - starved <= limit_ms + 1e-6, _span(ms, starved, 0), limit), span


def first_audible(line: bytes) -> tuple[int, bytes]:
    """Number and bytes of the first frame that a person would hear."""
    frames = [line[at : at + FRAME_BYTES] for at in range(0, len(line), FRAME_BYTES)]
    return next((number, frame) for number, frame in enumerate(frames) if is_audible(frame))


def model_recovered(heard_at: Sequence[float], lost_at: float, limit_seconds: float) -> Guarantee:
    """G1: from the loss of the session to the first audible frame of its successor's speech."""
    title = "The model is back, and speaks on"
    limit = f"≤ {limit_seconds:g} s"
    after = [at for at in heard_at if at > lost_at]
    if not after:
        return Guarantee("G1", title, False, "it never spoke again", limit)
    seconds = min(after) - lost_at
    return Guarantee("G1", title, seconds <= limit_seconds, f"{seconds:.2f} s", limit)


def stream_returned(lost_at: float, begins: Sequence[float], limit_seconds: float) -> Guarantee:
    """G2: from the loss of a stream to the start of the next."""
    title = "The carrier's stream is back"
    limit = f"≤ {limit_seconds:g} s"
    after = [at for at in begins if at > lost_at]
    if not after:
        return Guarantee("G2", title, False, "it never came back", limit)
    seconds = min(after) - lost_at
    return Guarantee("G2", title, seconds <= limit_seconds, f"after {seconds * 1000:.0f} ms", limit)


def session_stayed(sessions: Sequence[int]) -> Guarantee:
    """G2: the answer that the drop fell into was made by one session, which numbers it once."""
    title = "The model does not notice"
    figure = (
        f"{len(sessions)} replies of {len(set(sessions))} session{'s' if len(set(sessions)) != 1 else ''}"
    )
    return Guarantee("G2", title, len(sessions) == 1, figure.replace("1 replies", "1 reply"), "1 reply")


def heard_once(name: str, title: str, hearing: Hearing, items: Sequence[int]) -> Guarantee:
    """Audible frames of ``items`` that were heard more than once, or out of order."""
    twice = sum(len(times) - 1 for place, times in hearing.times.items() if place.item in items)
    figure = f"{twice} frames" + (f", {hearing.order_broken} out of order" if hearing.order_broken else "")
    return Guarantee(name, title, twice == 0 and not hearing.order_broken, figure, "0 frames")


def none_lost(
    name: str,
    title: str,
    hearing: Hearing,
    spoken: Sequence[Spoken],
    items: Sequence[int],
    cut: Sequence[int],
) -> Guarantee:
    """Audible frames of ``items`` that were never heard. An item in ``cut`` owes only what lies before the last
    frame heard of it."""
    lost = owed = 0
    for item in items:
        frames = [
            p for p in hearing.audible(item) if item not in cut or p.frame * FRAME_MS < hearing.heard_ms(item)
        ]
        owed += len(frames)
        lost += sum(place not in hearing.times for place in frames)
    held = lost == 0 and owed > 0
    return Guarantee(name, title, held, f"{lost} of {owed} frames", "0 frames")


def words_once(
    name: str, title: str, line: str, pieces: Sequence[Sequence[str]], twice_max: int = WORDS_TWICE_MAX
) -> Guarantee:
    """``line`` was heard in ``pieces``, each a synthesis of its own: which of its words twice, which never.

    At most ``twice_max`` words twice at each seam; none may be missing.
    """
    limit = f"≤ {twice_max} words twice, 0 lost"
    want = [_bare(word) for word in line.split()]
    at = twice = 0
    for piece in pieces:
        words = [_bare(word) for word in piece]
        # Where this piece goes on: never before its first word was due.
        start = next((back for back in range(at, -1, -1) if want[back : back + len(words)] == words), None)
        if start is None:
            return Guarantee(name, title, False, f"not the line: {' '.join(piece)!r}", limit)
        twice = max(twice, at - start)
        at = start + len(words)
    lost = len(want) - at
    figure = f"{twice} word{'s' if twice != 1 else ''} twice, {lost} lost"
    return Guarantee(name, title, twice <= twice_max and lost == 0, figure, limit)


def clear_in_time(
    started: Sequence[float],
    clears: Sequence[float],
    limit_ms: float = CLEAR_MS,
    waited: Waited = NobodyWaited(),  # noqa: B008
) -> Guarantee:
    """G4: from the model's speech-started event leaving it to the clear arriving at the carrier."""
    title = "Clear at the carrier after speech-started"
    limit = f"≤ {limit_ms:g} ms"
    if not clears:
        return Guarantee("G4", title, False, "no clear came", limit)
    worst, worst_starved = 0.0, 0.0
    for at in clears:
        before = [begin for begin in started if begin <= at]
        if not before:
            return Guarantee("G4", title, False, "a clear without a cause", limit)
        ms = (at - max(before)) * 1000
        starved = waited.between(max(before), at) * 1000 if ms > limit_ms else 0.0
        if ms - starved >= worst - worst_starved:
            worst, worst_starved = ms, starved
    held = worst - worst_starved <= limit_ms + 1e-6
    return Guarantee("G4", title, held, _span(worst, worst_starved, 1), limit)


def told_is_heard(spoken: Sequence[Spoken], heard_ms: Mapping[int, int]) -> Guarantee:
    """G4: ``audio_end_ms`` as the model was told, against what was heard of the item at the caller's ear."""
    title = "What the model is told was heard"
    limit = f"{TOLD_BELOW_MS} ms less to {TOLD_ABOVE_MS} ms more"
    told = {n: item.truncated_ms for n, item in enumerate(spoken) if item.truncated_ms is not None}
    if not told:
        return Guarantee("G4", title, False, "it was told nothing", limit)
    off = [ms - heard_ms.get(item, 0) for item, ms in told.items()]
    worst = max(off, key=abs)
    held = all(-TOLD_BELOW_MS <= ms <= TOLD_ABOVE_MS for ms in off)
    pairs = ", ".join(f"told {ms} ms, heard {heard_ms.get(item, 0)} ms" for item, ms in told.items())
    return Guarantee("G4", title, held, pairs if len(off) == 1 else f"{worst:+d} ms at worst", limit)


def tool_failed_softly(
    tools: Sequence[Mapping[str, Any]], name: str, words: Sequence[str], sorry: str
) -> Guarantee:
    """G5: the tool's end is known as a failure, and the agent spoke about it to the end."""
    title = "A tool hangs: the agent speaks about it"
    limit = "the call goes on"
    states = [tool["status"] for tool in tools if tool["name"] == name]
    said = [_bare(word) for word in words] == [_bare(word) for word in sorry.split()]
    held = states in (["timeout"], ["error"], ["unknown"]) and said
    shown = ", ".join(states) or "never called"
    return Guarantee("G5", title, held, shown if said else f"{shown}; it was not said", limit)


def effects_once(effects: Sequence[str], expected: Sequence[str], *, name: str = "G5") -> Guarantee:
    """What the tools did to the world, as the world has it."""
    title = "Side effects"
    twice = len(effects) - len(set(effects))
    missing = [effect for effect in expected if effect not in effects]
    held = sorted(effects) == sorted(expected)
    figure = f"{len(effects)} done, {twice} twice, {len(missing)} missing"
    return Guarantee(name, title, held, figure, "each once")


def nothing_left(live: float | None, before: int | None, after: int | None) -> Guarantee:
    """G6: live calls and file descriptors of the server when the call is over, against an idle one."""
    title = "Left behind in the server"
    shown = "?" if live is None else f"{live:g}"
    held = live == 0
    figure = f"{shown} calls"
    if before is not None and after is not None:
        held = held and after <= before
        figure += f", {max(0, after - before)} descriptors ({before} idle, {after} now)"
    return Guarantee("G6", title, held, figure, "nothing")


def revived(
    show: Mapping[str, Any], kills: int, gap_seconds: float | None, said_before: Sequence[str]
) -> Guarantee:
    """G3: after the process died the journal has everything the caller said before, and the agent spoke again."""
    title = "The agent speaks on after kill -9"
    limit = "one transcript"
    lines = [_plain(line["text"]) for line in show["transcript"] if line["role"] == "caller"]
    forgotten = [text for text in said_before if _plain(text) not in lines]
    if gap_seconds is None:
        return Guarantee("G3", title, False, "never", limit)
    figure = f"after {gap_seconds:.2f} s" + (f"; {len(forgotten)} turns forgotten" if forgotten else "")
    return Guarantee("G3", title, kills > 0 and not forgotten, figure, limit)


def ended_with_outcome(show: Mapping[str, Any], expected: str = "completed") -> Guarantee:
    """G8."""
    outcome = show.get("outcome")
    held = show.get("state") == "ended" and outcome == expected
    return Guarantee("G8", "The call ends, and the journal knows how", held, str(outcome), expected)


def drained(status: int) -> Guarantee:
    """G11: SIGTERM to an idle server."""
    return Guarantee("G11", "SIGTERM ends the idle server in order", status == 0, f"exit {status}", "exit 0")


def nothing_refused(by_carrier: Sequence[str], by_model: Sequence[str]) -> Guarantee:
    """What the emulators, strict as the real ones, had to refuse of our messages."""
    refused = [*by_carrier, *by_model]
    figure = f"{len(refused)} messages" + (f": {refused[0]}" if refused else "")
    return Guarantee("G10", "Refused by carrier and model", not refused, figure, "0 messages")


def secrets_kept(log: str, secrets: Mapping[str, str], said: Sequence[str]) -> Guarantee:
    """G12: keys, tokens, numbers and what was said, sought in all that the server has logged."""
    found = [name for name, secret in secrets.items() if secret in log]
    plain = f" {_plain(log)} "
    leaked = [text for text in said if any(f" {piece} " in plain for piece in _shingles(text))]
    figure = "nothing" if not (found or leaked) else ", ".join([*found, *(f"words of {t!r}" for t in leaked)])
    title = f"Secrets and voices in {len(log.splitlines())} lines of log"
    return Guarantee("G12", title, not found and not leaked, figure, "nothing")


def _span(ms: float, starved: float, digits: int) -> str:
    """With what the machine had no processor for, where that matters."""
    told = f", {starved:.{digits}f} of it waiting for a processor" if starved else ""
    return f"{ms:.{digits}f} ms{told}"


def _shingles(text: str) -> list[str]:
    """Three words in a row are nobody's but the speaker's."""
    words = _plain(text).split()
    return [" ".join(words[at : at + 3]) for at in range(max(1, len(words) - 2))]


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def _bare(word: str) -> str:
    return re.sub(r"[^\w']", "", word.lower())
