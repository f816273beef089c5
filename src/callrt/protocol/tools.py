"""The tool-call table: what becomes of each tool call that the model makes.

Theory of operation. A *call* (the model's ``call_id``) asks for a *run* of a tool. Every call gets exactly
one output while the phone call lives. A run is named by its idempotency key (phone call, tool, canonical
arguments, turn), so the same request under a new call id, as a rebuilt model session makes it, is
recognised:

====================  ==========================  ===============================
the run is            tool with side effects      tool without
====================  ==========================  ===============================
not known             runs                        runs
running               joins: one run, two answers joins
finished              the known output            runs again; the known output once
                                                  after the model session changed
refused, not started  runs                        runs
====================  ==========================  ===============================

Everything else is answered here and runs nothing: unknown tools, arguments that do not fit, a runaway model.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal

import attrs
import msgspec

from callrt.protocol.models.events import ToolSpec

Status = Literal["ok", "error", "timeout", "unknown"]

OUTPUT_BYTES_MAX = 16_000
"""A model reads about 4 bytes a token: 4 000 tokens is an eighth of a realtime model's window already."""

CUT_NOTICE = "\n[cut: the tool's output was too long]"

TRANSFER_TO_HUMAN = ToolSpec(
    name="transfer_to_human",
    description="Hand this phone call over to a human. Say so to the caller before you use it.",
    parameters={
        "type": "object",
        "properties": {
            "reason": {"type": "string", "description": "Why, in one sentence; the human will hear it."}
        },
        "required": ["reason"],
        "additionalProperties": False,
    },
)

END_CALL = ToolSpec(
    name="end_call",
    description="Hang up. Use it when the conversation is over and you have said goodbye.",
    parameters={
        "type": "object",
        "properties": {"reason": {"type": "string", "description": "Why, in a few words."}},
        "required": [],
        "additionalProperties": False,
    },
)

RESERVED_NAMES = (TRANSFER_TO_HUMAN.name, END_CALL.name)
"""Built in: their effect is done by the call itself; no tool of a user's may take these names."""

REASON_CHARS_MAX = 300
"""The human hears the reason read out: 300 characters are 20 seconds."""


@attrs.frozen
class CallFacts:
    """What a tool may know of the phone call it runs in."""

    call_sid: str
    caller: str
    agent: str
    called: str = ""


class BadArguments(ValueError):
    """The model's arguments do not fit the tool; the message is for the model."""


class ToolFailed(Exception):
    """Raised in a tool: the message goes to the model, which may say it to the caller.

    Any other exception reaches the model only as its type's name: its text may hold secrets.
    """


@attrs.frozen
class Entry:
    """A tool as the table sees it."""

    parse: Callable[[str], str]
    """JSON as the model wrote it to canonical JSON; raises :class:`BadArguments`."""
    side_effects: bool = False


@attrs.frozen
class Limits:
    """Bounds on what one model may ask for. Beyond them a call is answered with an error, and counted."""

    same_per_turn: int = 5
    """Equal tool and arguments; public clients break the loop at 3 to 10."""
    calls_per_turn: int = 20
    running: int = 16
    turns_kept: int = 8
    """Known outputs of older turns are forgotten, and side effects asked for that late are refused."""
    call_ids_kept: int = 1024
    restored: int = 256
    arguments_bytes: int = 65_536


# -- decisions: what the caller of the table is to do -----------------------------------------------------


@attrs.frozen
class Run:
    """Start this run and report its end with :meth:`ToolTable.finish`."""

    key: str
    call_id: str
    name: str
    arguments: str
    """Canonical JSON."""
    side_effects: bool


@attrs.frozen
class Answer:
    """Nothing runs: send this output."""

    call_id: str
    name: str
    output: str
    status: Status
    why: str
    """known, unknown_tool, bad_arguments, runaway, busy, too_old: a counter of this name has moved."""


@attrs.frozen
class Join:
    """The same request is running: its output will answer this call too."""

    call_id: str
    key: str


@attrs.frozen
class Ignore:
    """A call id seen before, or the phone call has ended: no further output."""

    call_id: str
    why: str


Decision = Run | Answer | Join | Ignore


@attrs.define
class _Known:
    name: str
    turn: int
    side_effects: bool
    waiting: list[str]
    """Call ids that still want the output; in the order they came."""
    running: bool
    status: Status = "ok"
    output: str = ""
    redeliver: bool = False


class ToolTable:
    """One phone call's tool calls. No clock, no I/O; illegal use by our own code is an AssertionError."""

    def __init__(self, call_sid: str, tools: Mapping[str, Entry], limits: Limits | None = None) -> None:
        self._call_sid = call_sid
        self._tools = dict(tools)
        self._limits = limits or Limits()
        self._known: dict[str, _Known] = {}
        self._restored: list[str] = []
        self._call_ids: dict[str, None] = {}
        self._turn = -1
        self._turn_calls = 0
        self._turn_same: Counter[tuple[str, str]] = Counter()
        self._ended = False
        self.counters: Counter[str] = Counter()

    @property
    def ended(self) -> bool:
        return self._ended

    def running(self) -> tuple[str, ...]:
        """Keys of the runs that have not finished, oldest first."""
        return tuple(key for key, known in self._known.items() if known.running)

    def waiting(self, key: str) -> tuple[str, ...]:
        """The calls that this run will answer."""
        known = self._known.get(key)
        return tuple(known.waiting) if known is not None else ()

    def request(self, call_id: str, name: str, arguments: str, turn: int) -> Decision:
        """Decide one call of the model's. Never raises for what a model may send."""
        self.counters["requests"] += 1
        if self._ended:
            return self._ignore(call_id, "after_end")
        if call_id in self._call_ids:
            return self._ignore(call_id, "duplicate_call_id")
        self._remember_call_id(call_id)
        self._enter_turn(turn)
        self._turn_calls += 1
        if self._turn_calls > self._limits.calls_per_turn:
            return self._refuse(
                call_id, name, "runaway", "Too many tool calls in this turn. Answer without tools."
            )
        if turn < self._turn - self._limits.turns_kept:
            return self._refuse(call_id, name, "too_old", "This request is too old to be carried out.")
        entry = self._tools.get(name)
        if entry is None:
            return self._refuse(call_id, name, "unknown_tool", unknown_tool_text(self._tools))
        if len(arguments) > self._limits.arguments_bytes:
            return self._refuse(
                call_id, name, "bad_arguments", "The arguments are too long. Nothing was done."
            )
        try:
            canonical = entry.parse(arguments)
        except BadArguments as error:
            return self._refuse(call_id, name, "bad_arguments", f"{error} Nothing was done.")
        self._turn_same[name, canonical] += 1
        if self._turn_same[name, canonical] > self._limits.same_per_turn:
            return self._refuse(
                call_id, name, "runaway", "The same call was made again and again. Answer without this tool."
            )
        return self._look_up(call_id, name, canonical, turn, entry.side_effects)

    def _look_up(self, call_id: str, name: str, canonical: str, turn: int, side_effects: bool) -> Decision:
        key = idempotency_key(self._call_sid, name, canonical, turn)
        known = self._known.get(key)
        if known is not None and known.running:
            if call_id in known.waiting:
                return self._ignore(call_id, "duplicate_call_id")
            known.waiting.append(call_id)
            self.counters["joined"] += 1
            return Join(call_id, key)
        if known is not None and (known.side_effects or known.redeliver):
            known.redeliver = False
            self.counters["known"] += 1
            return Answer(call_id, name, known.output, known.status, "known")
        if len(self.running()) >= self._limits.running:
            return self._refuse(
                call_id, name, "busy", "Too many tools are running. Nothing was done; wait a moment."
            )
        self._known.pop(key, None)
        self._known[key] = _Known(name, turn, side_effects, [call_id], running=True)
        self.counters["runs"] += 1
        return Run(key, call_id, name, canonical, side_effects)

    def finish(self, key: str, status: Status, output: str, *, remember: bool = True) -> tuple[str, ...]:
        """The run has ended; returns the calls to answer with its output (cut by :func:`cut` before).

        ``remember=False``: it never started (or is known not to have happened), so the same request may run
        later. After :meth:`end`, or for a run that has finished before: nobody is answered; it is counted.
        """
        known = self._known.get(key)
        if self._ended or known is None or not known.running:
            self.counters["late"] += 1
            return ()
        assert len(output.encode("utf-8", "replace")) <= OUTPUT_BYTES_MAX, (
            "outputs are cut before they get here"
        )
        answered = tuple(known.waiting)
        known.waiting.clear()
        if remember:
            known.running, known.status, known.output = False, status, output
        else:
            del self._known[key]
        self.counters["finished"] += 1
        self.counters["answered"] += len(answered)
        return answered

    def session_changed(self) -> None:
        """A new model session, with call ids of its own: it may ask again for what the lost one had asked.

        Each finished run of this turn that went well may answer once more without running; runs under way
        are joined as ever.
        """
        self._call_ids.clear()
        for known in self._known.values():
            if not known.running and known.status == "ok" and known.turn >= self._turn:
                known.redeliver = True

    def restore(self, key: str, name: str, side_effects: bool, status: Status, output: str) -> None:
        """A run of an earlier process, from the journal: its side effect is not repeated."""
        assert not self._ended, "a call that has ended has no runs to restore"
        if not side_effects or not key or key in self._known:
            return
        self._known[key] = _Known(name, -1, True, [], running=False, status=status, output=output)
        self._restored.append(key)
        if len(self._restored) > self._limits.restored:
            self._known.pop(self._restored.pop(0), None)
            self.counters["forgotten"] += 1

    def adopt(self, key: str, call_id: str, name: str, side_effects: bool) -> None:
        """A run of an earlier process whose end is not known: it counts as running until :meth:`finish`."""
        assert not self._ended, "a call that has ended has no runs to adopt"
        self._known[key] = _Known(name, -1, side_effects, [call_id], running=True)

    def end(self) -> None:
        """The phone call is over: nothing runs, nobody is answered any more. Idempotent."""
        if self._ended:
            return
        self._ended = True
        self.counters["unanswered_at_end"] += sum(len(known.waiting) for known in self._known.values())
        self._known.clear()

    # -- inside ---------------------------------------------------------------------------------------

    def _enter_turn(self, turn: int) -> None:
        if turn <= self._turn:
            return
        self._turn, self._turn_calls = turn, 0
        self._turn_same.clear()
        oldest = turn - self._limits.turns_kept
        for key in [k for k, v in self._known.items() if not v.running and 0 <= v.turn < oldest]:
            del self._known[key]
            self.counters["forgotten"] += 1

    def _remember_call_id(self, call_id: str) -> None:
        self._call_ids[call_id] = None
        if len(self._call_ids) > self._limits.call_ids_kept:
            del self._call_ids[next(iter(self._call_ids))]

    def _ignore(self, call_id: str, why: str) -> Ignore:
        self.counters[why] += 1
        return Ignore(call_id, why)

    def _refuse(self, call_id: str, name: str, why: str, text: str) -> Answer:
        self.counters[why] += 1
        return Answer(call_id, name, error_output(text), "error", why)


def parse_reason(raw: str) -> str:
    """The built-in tools' arguments, with the lenience that a last wish deserves: a missing reason is ""."""
    try:
        value = msgspec.json.decode(raw if raw.strip() else "{}", type=dict[str, msgspec.Raw])
        reason = msgspec.json.decode(value.get("reason", msgspec.Raw(b'""')), type=str)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadArguments('The arguments are {"reason": "…"}.') from None
    return msgspec.json.encode({"reason": reason[:REASON_CHARS_MAX]}).decode()


def reason_of(arguments: str) -> str:
    return str(msgspec.json.decode(arguments)["reason"])


# -- texts and keys ---------------------------------------------------------------------------------------


def idempotency_key(call_sid: str, name: str, canonical: str, turn: int) -> str:
    """32 hex digits, the same in every process for the same request of the same turn."""
    parts = [call_sid, name, canonical, str(turn)]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def error_output(text: str) -> str:
    """An output the model can speak about."""
    return cut(msgspec.json.encode({"error": text[:OUTPUT_BYTES_MAX]}).decode())


def unknown_tool_text(tools: Mapping[str, object]) -> str:
    names = ", ".join(tools) or "none"
    return f"There is no such tool. Nothing was done. The tools are: {names}."


def cut(text: str, limit: int = OUTPUT_BYTES_MAX) -> str:
    """At most ``limit`` bytes of UTF-8, never half a character, with a notice when something was left out."""
    data = text[: limit + 1].encode("utf-8", "replace")
    if len(data) <= limit and len(text) <= limit:
        return data.decode()
    keep = limit - len(CUT_NOTICE)
    assert keep >= 0, "a limit must have room for the notice"
    return data[:keep].decode("utf-8", "ignore") + CUT_NOTICE
