"""G3, G5: side effects run once, after their intent is on the disk; every request gets one output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from callrt.protocol.records import ToolFinished, ToolIntended
from callrt.testing.model_faults import Fault
from callrt.testing.sim import case as sim
from callrt.testing.sim.checkers.verdicts import Checked, Finding, Violation
from callrt.testing.sim.history import History

ANSWER_SECONDS = 2 * 2.0 + 0.5
"""Beyond a tool's timeout: two commits that wait as long as they may, and the way."""


def effects_once(history: History) -> Iterator[Finding]:
    """A side effect runs at most once per request; and never more often than the caller asked for it."""
    keys = Counter(effect.key for effect in history.effects)
    again = [key for key, count in keys.items() if count > 1]
    if again:
        yield Violation("G5", "effects_once", f"one request was carried out {max(keys.values())} times")
    elif keys:
        yield Checked("G5")
    asked = sum(each.line == "book" for each in history.asked)
    if len(history.effects) > max(1, asked) and not history.others:
        yield Violation("G5", "effects_once", f"asked for {asked} times, done {len(history.effects)} times")


def intent_before_effect(history: History) -> Iterator[Finding]:
    """Nothing is done whose intent was not on the disk."""
    intents: dict[str, float] = {}
    for entry in history.of(ToolIntended):
        if isinstance(entry.record, ToolIntended):
            intents.setdefault(
                entry.record.idempotency_key, history.committed.get(entry.number, float("inf"))
            )
    for effect in history.effects:
        if effect.key not in intents:
            yield Violation("G3", "intent_before_effect", "a side effect of which the journal knows nothing")
        elif intents[effect.key] > effect.at:
            yield Violation("G3", "intent_before_effect", "a side effect before its intent was on the disk")
        else:
            yield Checked("G3")


def one_output(history: History) -> Iterator[Finding]:
    """Each completed tool call of the model's gets exactly one output, while its session lives."""
    for session in history.sessions:
        outputs = Counter(
            told.event["item"].get("call_id")
            for told in session.told
            if told.event["type"] == "conversation.item.create"
            and told.event["item"]["type"] == "function_call_output"
        )
        for said in session.said:
            if said.event["type"] != "response.function_call_arguments.done":
                continue
            call_id, at = said.event["call_id"], said.at
            replayed = any(
                told.event.get("item", {}).get("call_id") == call_id
                and told.event["item"]["type"] == "function_call"
                for told in session.told
                if told.event["type"] == "conversation.item.create"
            )
            if outputs[call_id] > 1:
                yield Violation("G5", "one_output", f"{outputs[call_id]} outputs for one tool call")
            elif outputs[call_id] == 1 or replayed:
                yield Checked("G5")
            elif _lived_after(history, session, at) and not _was_cut(session, said.event["response_id"]):
                yield Violation("G5", "one_output", "a tool call of the model's got no output")


def _lived_after(history: History, session: object, at: float) -> bool:
    said = [each.at for each in session.said]  # type: ignore[attr-defined]
    told = [each.at for each in session.told]  # type: ignore[attr-defined]
    last = max([*said[-1:], *told[-1:], at])
    stalled = any(isinstance(s.fault, Fault) and s.fault.kind in ("stall", "freeze") for s in history.struck)
    return (
        last - at > history.case.tool_seconds + ANSWER_SECONDS + 6 * history.case.latency
        and not stalled
        and not history.faults(sim.Kill)
    )


def _was_cut(session: object, response_id: str) -> bool:
    """The response did not end as completed: its calls are void."""
    for said in session.said:  # type: ignore[attr-defined]
        if said.event["type"] == "response.done" and said.event["response"]["id"] == response_id:
            return bool(said.event["response"]["status"] != "completed")
    return True


def results_are_told(history: History) -> Iterator[Finding]:
    """A later session knows the tool results that were on the disk before it began."""
    refused = any(
        isinstance(s.fault, Fault) and s.fault.kind == "close" and s.fault.code == 1007
        for s in history.struck
    )
    if refused or history.others:
        return
    finished = {
        entry.record.call_id: history.committed[entry.number]
        for entry in history.of(ToolFinished)
        if isinstance(entry.record, ToolFinished)
        and entry.record.status == "ok"
        and entry.number in history.committed
    }
    for session in history.sessions[1:]:
        created = [told for told in session.told if told.event["type"] == "conversation.item.create"]
        configured = any(told.event["type"] == "session.update" for told in session.told)
        live = session.counts["session.updated"] > 0
        if not configured or not live or (session.is_over and not created):
            continue
        known = {
            told.event["item"].get("call_id")
            for told in created
            if told.event["item"]["type"] == "function_call_output"
        }
        for call_id, at in finished.items():
            made_here = any(
                said.event["type"] == "response.function_call_arguments.done"
                and said.event["call_id"] == call_id
                for said in session.said
            )
            if made_here or at > session.began - 0.5:
                continue
            if call_id in known:
                yield Checked("G3")
            elif session.counts["input_audio_buffer.append"] > 50:
                yield Violation(
                    "G3", "results_are_told", "a new session was not told of a tool's committed result"
                )
