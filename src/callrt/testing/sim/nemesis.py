"""The nemesis: a case from a number. Pure: the same seed and profile give the same case on any machine."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import get_args

from callrt.protocol.faults import ACCOUNT_CODES
from callrt.testing.carrier_plan import Drop
from callrt.testing.model_faults import Fault, Stage, Trigger
from callrt.testing.sim.case import (
    Ask,
    BadMessages,
    Caller,
    Case,
    Crash,
    DiskTrouble,
    Drain,
    Flood,
    Kill,
    Pause,
    Repeat,
    RestDown,
    SimFault,
    Takeover,
    ToolTrouble,
)
from callrt.testing.sim.profiles import Profile

SECONDS_PER_ASK = 7.0
"""About what one exchange takes: the storm lasts as long as the questions."""

EVENTS = (
    "session.created",
    "session.updated",
    "input_audio_buffer.append",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.truncate",
    "response.create",
    "response.created",
    "response.output_item.added",
    "response.output_audio.delta",
    "response.output_audio_transcript.delta",
    "response.function_call_arguments.done",
    "response.done",
)
"""Moments worth breaking a session at."""

TRANSIENT_CLOSES = (1000, 1001, 1006, 1011, 1012, 1013)
DROPPABLE = (
    "response.output_audio.done",
    "response.output_item.done",
    "response.content_part.done",
    "conversation.item.done",
    "rate_limits.updated",
    "input_audio_buffer.speech_stopped",
)
DUPLICABLE = (
    "response.done",
    "response.created",
    "response.output_audio.done",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.committed",
    "session.updated",
)


def draw(seed: int, profile: Profile) -> Case:
    """The case with this number."""
    rng = random.Random(f"case/{seed}/{profile.name}")
    caller = _caller(rng, profile)
    storm = SECONDS_PER_ASK * (len(caller.asks) + 0.5)
    names = list(profile.weights)
    count = rng.randint(profile.least, profile.most) if names else 0
    chosen = rng.choices(names, [profile.weights[name] for name in names], k=count) if count else []
    return Case(
        seed=seed,
        caller=caller,
        faults=tuple(_DRAWS[name.partition(" ")[0]](rng, name.partition(" ")[2], storm) for name in chosen),
        human=rng.random() < 0.4,
        latency=rng.choice((0.0, 0.0, 0.01, 0.03, 0.06)),
        stall_seconds=rng.choice((2.0, 5.0)),
        transcription=rng.choice(("before", "during", "during", "after", "never")),
        echo_delay=rng.choice((0.0, 0.0, 0.0, 0.05)),
        duplicate_webhooks=rng.random() < 0.1,
    )


def _caller(rng: random.Random, profile: Profile) -> Caller:
    lines = ["hours", "price", "parking", "look", "book"]
    if "tool hang" in profile.weights:
        lines += ["look", "book"]
    asks: list[Ask] = []
    for _ in range(rng.choice((1, 1, 2, 2, 3))):
        line = rng.choice([each for each in lines if each not in [ask.line for ask in asks]])
        over = rng.choice((300, 1000, 2000)) if asks and rng.random() < 0.3 else None
        asks.append(Ask(line, over))
    return Caller(
        tuple(asks),
        digits=rng.choice("0123456789*#") * rng.randint(1, 2) if rng.random() < 0.1 else "",
        hangs_up_ms=rng.randrange(100, 3000) if rng.random() < 0.07 else None,
    )


# -- one draw per family of faults -------------------------------------------------------------------------


def _at(rng: random.Random, storm: float) -> float:
    return round(rng.uniform(0.05, storm), 2)


def _model(rng: random.Random, kind: str, storm: float) -> SimFault:
    at = _trigger(rng, storm)
    match kind:
        case "refuse":
            # The first connection, or those after a loss; a burst of refusals is one fault.
            at = Trigger(connection=rng.choice((None, 1, 2, 2, 3)))
            status = rng.choice((429, 500, 502, 503, 503, 503, 401, 403))
            retry_after = rng.choice((None, None, 0.5, 2.0)) if status in (429, 503) else None
            return Fault(
                "refuse", at, times=rng.choice((1, 1, 1, 2, 3)), status=status, retry_after=retry_after
            )
        case "error_then_close":
            return Fault(
                "error_then_close", Trigger(connection=rng.choice((1, 2))), code=rng.choice((3000, 4000))
            )
        case "close":
            code = rng.choice((*TRANSIENT_CLOSES, *TRANSIENT_CLOSES, 1007, 3000, 4000))
            reason = "invalid_request_error.some_code" if code >= 3000 else ""
            return Fault("close", at, code=code, reason=reason)
        case "stall":
            return Fault("stall", at, seconds=rng.choice((None, None, 0.5, 1.0, 3.0)))
        case "expire":
            return Fault("expire", at, with_error=rng.random() < 0.5)
        case "error":
            word = rng.choice(
                ("weird", "weird", "response_cancel_not_active", rng.choice(sorted(ACCOUNT_CODES)))
            )
            return Fault("error", at, error_type="invalid_request_error", error_code=word)
        case "fail" | "poison":
            why = rng.choice((None, None, "rate_limit_exceeded", "server_error"))
            stage: Stage = rng.choice(get_args(Stage))
            trigger = rng.choice((at, Trigger(connection=rng.choice((None, 1)), reply=rng.randint(1, 4))))
            return Fault("fail" if kind == "fail" else "poison", trigger, error_code=why, stage=stage)
        case "garbage":
            form = rng.choice(("binary", "not_json", "not_object", "huge"))
            return Fault("garbage", at, form=form, times=rng.choice((1, 1, 5)))  # type: ignore[arg-type]
        case "drop":
            return Fault("drop", at, event=rng.choice(DROPPABLE))
        case "duplicate":
            return Fault("duplicate", at, event=rng.choice(DUPLICABLE))
        case "late_deltas":
            return Fault("late_deltas", at, ms=rng.choice((100, 400, 2000)), after_done=rng.random() < 0.5)
        case "rate":
            return Fault("rate", Trigger(reply=rng.randint(1, 3)), rate=rng.choice((0.5, 0.9, 1.0, 50.0)))
        case "incomplete":
            return Fault(
                "incomplete",
                Trigger(reply=rng.randint(1, 3)),
                reason=rng.choice(("max_output_tokens", "content_filter")),
            )
        case "transcription":
            return Fault("transcription", at, mode=rng.choice(("before", "after", "never", "failed")))
        case _:
            return Fault(kind, at)  # type: ignore[arg-type]  # the profile's test holds the names


def _trigger(rng: random.Random, storm: float) -> Trigger:
    connection = rng.choice((None, None, 1, 1, 1, 2))
    match rng.randrange(4):
        case 0:
            reply = rng.choice((None, 1, 2, 2, 3))
            return Trigger(connection=connection, reply=reply, audio_ms=20 * rng.randint(1, 200))
        case 1:
            return Trigger(
                connection=connection, event=rng.choice(EVENTS), count=rng.choice((1, 1, 2, 2, 3, 4))
            )
        case 2:
            return Trigger(connection=connection, seconds=_at(rng, storm))
        case _:
            return Trigger(connection=connection, reply=rng.randint(1, 4))


def _carrier(rng: random.Random, kind: str, storm: float) -> SimFault:
    notice = rng.choice((None, 1.0, 8.0)) if kind == "half_open" else None
    how: str = kind
    if rng.random() < 0.5:
        heard = rng.randrange(0, round(storm * 500))
        return Drop(how, heard_ms=heard, after_mark=rng.random() < 0.5, notice_seconds=notice)  # type: ignore[arg-type]
    return Drop(how, seconds=_at(rng, storm), stream=rng.choice((None, 1)), notice_seconds=notice)  # type: ignore[arg-type]


def _disk(rng: random.Random, kind: str, storm: float) -> SimFault:
    return DiskTrouble(_at(rng, storm), rng.choice((0.3, 1.0, 4.0)), kind)  # type: ignore[arg-type]


def _bad(rng: random.Random, kind: str, storm: float) -> SimFault:
    return BadMessages(_at(rng, storm), rng.choice((1, 5, 50)), kind)  # type: ignore[arg-type]


def _crash(rng: random.Random, kind: str, storm: float) -> SimFault:
    return Crash(_at(rng, storm), kind)  # type: ignore[arg-type]


def _tool(rng: random.Random, kind: str, storm: float) -> SimFault:
    return ToolTrouble(round(rng.uniform(0, storm / 2), 2), kind, rng.choice((1.0, 2.5, 6.0)))  # type: ignore[arg-type]


_DRAWS: dict[str, Callable[[random.Random, str, float], SimFault]] = {
    "model": _model,
    "carrier": _carrier,
    "disk": _disk,
    "bad": _bad,
    "crash": _crash,
    "tool": _tool,
    "kill": lambda rng, _, storm: Kill(_at(rng, storm), rng.choice((0.05, 0.3, 1.0, 3.0))),
    "takeover": lambda rng, _, storm: Takeover(_at(rng, storm)),
    "repeat": lambda rng, _, storm: Repeat(_at(rng, storm)),
    "pause": lambda rng, _, storm: Pause(_at(rng, storm), rng.choice((0.2, 0.5, 1.5, 3.0))),
    "restdown": lambda rng, _, storm: RestDown(_at(rng, storm), rng.randint(1, 3), rng.choice((429, 503))),
    "drain": lambda rng, _, storm: Drain(
        _at(rng, storm), rng.choice((1.0, 5.0, 30.0)), alone=rng.random() < 0.4
    ),
    "flood": lambda rng, _, storm: Flood(round(rng.uniform(0.0, storm / 3), 2), rng.randint(1, 3)),
}


def known_names() -> Sequence[str]:
    """Families of faults that can be drawn."""
    return list(_DRAWS)
