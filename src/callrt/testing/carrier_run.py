"""Calls placed from a terminal: scripts made of words, digits and pauses, told line by line, kept as WAV
files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import attrs
import trio

from callrt.testing.carrier import Alert, Carrier, Drop, Human, PhoneCall, WebhookRecord, WireEvent
from callrt.testing.carrier_caller import CallOver, Line, Script
from callrt.testing.carrier_net import open_carrier, serve_rest
from callrt.testing.carrier_plan import Speak

PATIENCE_SECONDS: Final = 30.0
"""How long a caller waits for an answer before going on."""

GREETING_SECONDS: Final = 4.0
"""How long a caller waits to be greeted before speaking first."""

TURN_SILENCE_SECONDS: Final = 1.2
"""An agent that has been silent for so long has finished."""

Tell = Callable[[str], None]


@attrs.frozen
class Words:
    """The caller says something."""

    text: str
    """For the print-out."""
    audio: bytes


@attrs.frozen
class Digits:
    """The caller presses keys."""

    digits: str


Act = Words | Digits


@attrs.frozen
class Errand:
    """What a run of the emulated carrier shall do."""

    voice_url: str
    auth_token: str = attrs.field(repr=False)
    account_sid: str
    acts: tuple[Act, ...]
    calls: int
    """So many, all at once."""
    stay: bool
    """Stay on the line after the last act, until the app hangs up."""
    drops: tuple[Drop, ...]
    human: Human
    out: Path | None
    rest_port: int | None
    from_number: str
    to_number: str
    seed: str


async def run_errand(errand: Errand, speak: Speak, tell: Tell) -> bool:
    """Place the calls; True if each was answered and ended in order. If cancelled: the sockets are
    dropped."""
    async with (
        open_carrier(
            errand.voice_url,
            auth_token=errand.auth_token,
            account_sid=errand.account_sid,
            speak=speak,
            seed=errand.seed,
        ) as carrier,
        trio.open_nursery() as nursery,
    ):
        if errand.rest_port is not None:
            port = await nursery.start(serve_rest, carrier, errand.rest_port)
            tell(f"REST interface: set [carriers.twilio] api_url to http://127.0.0.1:{port}")
        results: list[bool] = []
        async with trio.open_nursery() as calls:
            for number in range(1, errand.calls + 1):
                calls.start_soon(_place, carrier, errand, number, tell, results)
        nursery.cancel_scope.cancel()
    return all(results)


async def _place(carrier: Carrier, errand: Errand, number: int, tell: Tell, results: list[bool]) -> None:
    prefix = f"call {number}: " if errand.calls > 1 else ""
    began = trio.current_time()

    def say(text: str) -> None:
        tell(f"{prefix}{trio.current_time() - began:7.2f} s  {text}")

    call = carrier.place(
        follow(errand.acts, stay=errand.stay, say=say),
        drops=errand.drops,
        anyone=errand.human,
        from_number=errand.from_number,
        to_number=errand.to_number,
    )
    call.on_event = lambda event: _describe(event, say)
    say(f"{call.call_sid} rings at {errand.voice_url}")
    await call.run()
    say(f"over: {call.end_reason.replace('_', ' ')}")
    for dial in call.dials:
        whisper = f", who first heard: {' '.join(dial.whispers)}" if dial.whispers else ""
        say(f"dialled {dial.number}: {dial.status}{whisper}")
    if errand.out is not None:
        path = errand.out / (f"call-{number}.wav" if errand.calls > 1 else "call.wav")
        call.tape.write_wav(path)
        say(f"{path} (left: said, right: heard)")
    results.append(_went_well(call))


def _went_well(call: PhoneCall) -> bool:
    return bool(call.streams) and call.end_reason in ("caller_hung_up", "app_hung_up")


def follow(acts: Sequence[Act], *, stay: bool, say: Tell) -> Script:
    """A caller who waits for the agent's words before each act and after the last one, then hangs up."""

    async def script(line: Line) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen, line, say)
            with trio.move_on_after(GREETING_SECONDS):
                await line.wait_for_agent()
            for act in acts:
                await _turn_over(line)
                match act:
                    case Words():
                        say(f"caller: {act.text}")
                        await line.say(act.audio)
                    case Digits():
                        say(f"caller presses {act.digits}")
                        line.press(act.digits)
            if stay:
                await line.wait_over()
            else:
                with trio.move_on_after(PATIENCE_SECONDS):
                    await line.wait_for_agent_silence(TURN_SILENCE_SECONDS)
                say("caller hangs up")
                line.hang_up()
            nursery.cancel_scope.cancel()

    return script


async def _turn_over(line: Line) -> None:
    """The agent has finished, or (silent since the caller's last words) is not going to begin."""
    if line.agent_began_at is None:
        return
    with trio.move_on_after(PATIENCE_SECONDS):
        await line.wait_for_agent_silence(TURN_SILENCE_SECONDS)


async def _listen(line: Line, say: Tell) -> None:
    """Tell when the caller hears somebody begin and end."""
    try:
        while True:
            began = line.agent_began_at
            while line.agent_began_at == began:
                await line.wait(0.02)
            voice_at = trio.current_time()
            say("the caller hears a voice")
            while trio.current_time() - line.agent_ended_at < 0.6:
                await line.wait(0.02)
            say(f"silence after {line.agent_ended_at - voice_at:.1f} s")
    except CallOver:
        await trio.lowlevel.checkpoint()


def _describe(event: WireEvent | Alert | WebhookRecord, say: Tell) -> None:
    match event:
        case WebhookRecord():
            say(f"{event.kind} webhook: {event.status or 'no answer'} in {event.seconds * 1000:.0f} ms")
        case Alert():
            say(f"warning {event.code}: {event.text}")
        case WireEvent(kind="start" | "stop" | "ended" | "dtmf", sent=True):
            say(f"stream {event.stream}: {event.kind}{f' {event.detail}' if event.detail else ''}")
        case WireEvent(kind="clear"):
            say(f"stream {event.stream}: cleared, {event.size // 8} ms unheard")
        case WireEvent(kind="refused"):
            say(f"stream {event.stream}: message refused, {event.detail}")
        case _:
            pass
