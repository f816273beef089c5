"""The last words, spoken by the call itself when its actors are gone, and the hand-over to a human."""

from __future__ import annotations

import trio

from callrt.actors.hearing import Hearing
from callrt.actors.line import Line
from callrt.policy import facts, limits
from callrt.protocol.handover import summary, transcript_text
from callrt.protocol.records import TransferRequested
from callrt.wire.transport import TransportClosed

SPEECH_SECONDS = 20.0
"""For what had already arrived to be heard before the last line, at most."""

LOOK_SECONDS = 0.05
"""Between two looks at what has been heard."""

ALREADY_ON_THE_WAY = 0.3
"""Seconds after the estimated end before a missing last mark is no longer waited for."""


async def speak_last(line: Line, name: str, *, hurry: bool) -> None:
    """What has arrived plays to its end (not in a hurry: then it is cut), then the line. Returns when it has been
    heard, when the stream is gone, or when time is up. If cancelled: the rest is not spoken."""
    if hurry:
        line.voice.barge_in(trio.current_time())
    line.voice.ease()
    patience = limits.LAST_WORDS_SECONDS
    if not hurry:
        patience += min(SPEECH_SECONDS, max(0.0, line.voice.silent_at - trio.current_time()))
    line.voice.say_line(name)
    with trio.move_on_after(patience):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen, line, nursery.cancel_scope)
            while not line.voice.silent:
                due = line.voice.tick()
                await trio.sleep_until(min(due, trio.current_time() + LOOK_SECONDS))
            await trio.sleep(ALREADY_ON_THE_WAY)
            nursery.cancel_scope.cancel()


async def _listen(line: Line, scope: trio.CancelScope) -> None:
    """Marks and a hang-up still come while the last words are spoken."""
    stream = line.stream
    try:
        if stream is not None:
            hearing = Hearing(line, stream)
            while hearing.sink(await stream.transport.receive()):
                pass
    except TransportClosed:
        if line.stream is stream and stream is not None:
            line.voice.detach(stream.last_media_at)
            line.stream = None
            stream.over.set()
    scope.cancel()


async def hand_over(line: Line, reason: str, note: str = "") -> None:
    """Record the transfer. The document that dials the human is the answer to the carrier's next question."""
    agent, state = line.plan.agent, line.log.state
    assert agent.transfer_to is not None
    text = summary(state.history, state.caller, agent.name, note or reason)
    line.observe(facts.TransferTried(reason))
    with trio.move_on_after(3):
        await line.log.commit_if_possible(
            TransferRequested(to=agent.transfer_to, reason=reason, summary=text)
        )
    if line.log.state.transfer is None:
        line.log.write(TransferRequested(to=agent.transfer_to, reason=reason, summary=text))


async def give_transcript(line: Line) -> None:
    """To the human, by SMS or to a webhook, where configured; a failure is reported and holds up nothing."""
    agent, state = line.plan.agent, line.log.state
    transcript = transcript_text(state.history)
    with trio.move_on_after(5):
        try:
            if agent.transfer_sms and agent.transfer_to is not None:
                await line.ports.rest.send_sms(to=agent.transfer_to, sender=state.called, body=transcript)
            if agent.transfer_webhook:
                payload = {
                    "call_sid": state.call_sid,
                    "agent": agent.name,
                    "caller": state.caller,
                    "called": state.called,
                    "reason": state.transfer.reason if state.transfer is not None else "",
                    "summary": state.transfer.summary if state.transfer is not None else "",
                    "transcript": [
                        {"role": said.role, "text": said.text} for said in state.lines if said.told
                    ],
                }
                await line.ports.handover.post(agent.transfer_webhook, payload)
        except Exception as error:
            line.report("error", f"the human did not get the transcript ({type(error).__name__})")
