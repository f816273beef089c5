"""G1: the model fails, and what the caller hears of it. One test per row of the first-reaction table."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from actors_scenes import AGENT, ANSWER, GREETING, HOURS, HUMAN, Scene, ask, play, saying

from callrt.policy import facts
from callrt.policy.settings import AgentSettings, Resilience
from callrt.protocol.faults import ACCOUNT_CODES
from callrt.testing import world_process
from callrt.testing.model_core import ModelOptions
from callrt.testing.model_faults import Fault, Trigger
from callrt.testing.world import MODEL

IN_ANSWER = Trigger(connection=1, reply=2, audio_ms=1000)


def resumed_as_if_nothing_had_happened(scene: Scene) -> None:
    """The whole answer was heard, once, in order; what the new session was told is what was heard."""
    assert scene.twice() == 0
    assert scene.unheard() == 0
    assert scene.agent_words() == f"{GREETING} {ANSWER}"
    assert scene.transcript()[1] == ("caller", HOURS)
    assert scene.state.outcome == "caller_hung_up"
    told = [text for role, text in scene.told(2) if role == "assistant"]
    assert ANSWER.startswith(told[-1])
    assert 0 < len(told[-1]) < len(ANSWER)


@pytest.mark.parametrize("code", [1001, 1005, 1006, 1011, 1012, 1013, 1015])
async def test_model_closing_in_mid_reply_is_not_noticed_but_for_a_pause(
    code: int, autojump_clock: Any
) -> None:
    fault = Fault("abort", IN_ANSWER) if code in (1005, 1006, 1015) else Fault("close", IN_ANSWER, code=code)
    scene = await play(fault)
    resumed_as_if_nothing_had_happened(scene)
    assert [s.reason.split()[0] for s in scene.state.model_sessions if s.ended_at][:1] == ["model_lost"]
    assert [r.actor for r in scene.state.restarts] == ["model"]
    assert scene.world.of(facts.ModelRecovered)


async def test_model_lost_for_a_while_is_bridged_by_the_comfort_line_in_time(autojump_clock: Any) -> None:
    refusals = [Fault("refuse", Trigger(connection=n), status=503) for n in (2, 3, 4)]
    scene = await play(Fault("close", IN_ANSWER), *refusals, agent=AGENT)
    resumed_as_if_nothing_had_happened(scene)
    (start,) = scene.line_starts()
    assert 0.1 < scene.silence_before(start) <= 0.3


async def test_comfort_is_not_said_when_the_reply_is_there_in_time(autojump_clock: Any) -> None:
    scene = await play(Fault("close", IN_ANSWER))
    assert scene.line_starts() == []


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_overload_at_the_upgrade_is_retried(status: int, autojump_clock: Any) -> None:
    scene = await play(
        Fault("close", IN_ANSWER), Fault("refuse", Trigger(connection=2), status=status), agent=HUMAN
    )
    resumed_as_if_nothing_had_happened(scene)
    assert scene.call.dials == [], "a refusal followed by a success is no reason to transfer"


async def test_retry_after_is_honoured_within_the_callers_patience(autojump_clock: Any) -> None:
    scene = await play(
        Fault("close", IN_ANSWER),
        Fault("refuse", Trigger(connection=2), status=429, retry_after=4.0),
        caller=saying(HOURS, silence=6.0),
    )
    resumed_as_if_nothing_had_happened(scene)
    assert scene.model.sessions[1].began - scene.fired_at() >= 4.0 - 1e-6


async def test_model_lost_while_nothing_is_owed_is_not_heard(autojump_clock: Any) -> None:
    scene = await play(Fault("close", Trigger(connection=1, event="response.done", count=2)))
    assert scene.line_starts() == []
    assert scene.twice() == scene.unheard() == 0
    assert scene.agent_words() == f"{GREETING} {ANSWER}"
    assert scene.requests(2) == 0


@pytest.mark.parametrize(
    ("at", "code"),
    [(IN_ANSWER, 3000), (IN_ANSWER, 4000)],
)
async def test_permanent_close_is_not_retried_and_apologised_for(
    at: Trigger, code: int, autojump_clock: Any
) -> None:
    scene = await play(Fault("close", at, code=code, reason="invalid_request_error.some_code"))
    assert scene.model.connections == 1
    assert len(scene.line_starts("sorry_goodbye")) == 1
    assert scene.state.outcome == "model_unavailable"
    assert scene.call.end_reason == "app_hung_up"
    assert scene.unheard() == 0, "what had arrived played to its end"


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_refused_key_or_address_is_not_retried(status: int, autojump_clock: Any) -> None:
    scene = await play(Fault("refuse", Trigger(), status=status, times=None))
    assert scene.model.connections == 1
    assert len(scene.line_starts("sorry_goodbye")) == 1
    assert scene.state.outcome == "model_unavailable"


@pytest.mark.parametrize("code", sorted(ACCOUNT_CODES))
@pytest.mark.parametrize("how", ["error", "fail"])
async def test_account_failures_are_permanent_and_known_to_all_calls(
    code: str, how: Any, autojump_clock: Any
) -> None:
    at = Trigger(connection=1, reply=2)
    scene = await play(Fault(how, at, error_code=code, error_type="invalid_request_error"))
    assert scene.model.connections == 1
    assert scene.state.outcome == "model_unavailable"
    assert len(scene.line_starts("sorry_goodbye")) == 1
    assert scene.world.process.gate.refuses(MODEL.url, MODEL.api_key, scene.fired_at() + 10.0)


async def test_bad_key_found_after_the_upgrade_is_permanent(autojump_clock: Any) -> None:
    scene = await play(
        Fault("error_then_close", Trigger(), code=3000, error_code="invalid_api_key", times=None)
    )
    assert scene.model.connections == 1
    assert scene.state.outcome == "model_unavailable"


@pytest.mark.parametrize(
    ("agent", "outcome"), [(AGENT, "model_unavailable"), (HUMAN, "transferred")], ids=["alone", "human"]
)
async def test_key_that_no_header_can_carry_is_permanent_and_known_to_all_calls(
    agent: AgentSettings, outcome: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    model = attrs.evolve(MODEL, api_key="sk-t\N{EURO SIGN}st")
    monkeypatch.setattr(world_process, "MODEL", model)
    scene = await play(agent=agent, caller=saying(HOURS, silence=60.0))
    assert scene.model.connections == 0
    assert [(f.fault, f.detail) for f in scene.state.faults] == [("model_account", "unusable_key")]
    assert not scene.state.restarts
    assert scene.state.outcome == outcome
    assert scene.seconds < 15, "the caller is not kept waiting for a retry"
    assert scene.world.process.gate.refuses(model.url, model.api_key, 20.0)


@pytest.mark.parametrize("code", ["rate_limit_exceeded", "inference_rate_limit_exceeded"])
async def test_rate_limited_reply_is_retried_in_the_same_session(code: str, autojump_clock: Any) -> None:
    scene = await play(Fault("fail", Trigger(connection=1, reply=2), error_code=code))
    assert scene.model.connections == 1
    assert scene.agent_words() == f"{GREETING} {ANSWER}"
    assert len(scene.line_starts()) == 1, "a second and a half of silence needs a word"


async def test_failed_reply_is_retried_once_in_the_same_session(autojump_clock: Any) -> None:
    scene = await play(Fault("fail", Trigger(connection=1, reply=2)))
    assert scene.model.connections == 1
    assert scene.agent_words() == f"{GREETING} {ANSWER}"
    assert scene.twice() == scene.unheard() == 0


async def test_reply_that_failed_half_spoken_is_finished_not_repeated(autojump_clock: Any) -> None:
    scene = await play(Fault("fail", IN_ANSWER))
    assert scene.model.connections == 1
    assert scene.twice() == scene.unheard() == 0
    assert scene.agent_words() == f"{GREETING} {ANSWER}"


async def test_poisoned_session_is_replaced_after_two_failures(autojump_clock: Any) -> None:
    scene = await play(Fault("poison", Trigger(connection=1, reply=2)))
    assert scene.model.connections == 2
    assert scene.agent_words() == f"{GREETING} {ANSWER}"


async def test_request_error_changes_nothing(autojump_clock: Any) -> None:
    scene = await play(
        Fault("error", Trigger(connection=1, reply=2), error_type="invalid_request_error", error_code="weird")
    )
    assert scene.model.connections == 1
    assert scene.agent_words() == f"{GREETING} {ANSWER}"
    assert [f.detail for f in scene.state.faults if f.fault == "request_rejected"] == ["weird"]


async def test_stall_is_known_after_its_seconds_and_bridged(autojump_clock: Any) -> None:
    scene = await play(
        Fault("stall", Trigger(connection=1, event="input_audio_buffer.committed")),
        resilience=Resilience(model_stall_seconds=2),
        caller=saying(HOURS, silence=4.0),
    )
    assert scene.model.connections == 2
    assert scene.agent_words() == f"{GREETING} {ANSWER}"
    assert scene.model.sessions[1].began - scene.fired_at() == pytest.approx(2.0, abs=0.2)


async def test_stall_in_mid_reply_is_resumed(autojump_clock: Any) -> None:
    scene = await play(
        Fault("stall", IN_ANSWER),
        resilience=Resilience(model_stall_seconds=2),
        caller=saying(HOURS, silence=6.0),
    )
    resumed_as_if_nothing_had_happened(scene)
    assert len(scene.line_starts()) <= 1


async def test_half_open_model_socket_is_a_stall(autojump_clock: Any) -> None:
    scene = await play(
        Fault("freeze", IN_ANSWER),
        resilience=Resilience(model_stall_seconds=2),
        caller=saying(HOURS, silence=6.0),
    )
    resumed_as_if_nothing_had_happened(scene)


@pytest.mark.parametrize("with_error", [False, True])
async def test_expired_session_is_renewed_and_the_reply_finished(
    with_error: bool, autojump_clock: Any
) -> None:
    scene = await play(Fault("expire", IN_ANSWER, with_error=with_error))
    resumed_as_if_nothing_had_happened(scene)
    assert scene.state.model_sessions[0].reason.startswith("model_expired")


async def test_poisoned_history_is_not_replayed(autojump_clock: Any) -> None:
    scene = await play(Fault("close", Trigger(connection=1, event="response.done", count=2), code=1007))
    assert scene.model.connections == 2
    roles = {role for role, _ in scene.told(2)}
    assert roles == {"system"}


async def test_model_that_never_comes_back_ends_in_an_apology(autojump_clock: Any) -> None:
    scene = await play(
        Fault("close", IN_ANSWER),
        *[Fault("refuse", Trigger(connection=n), status=503) for n in range(2, 40)],
        resilience=Resilience(model_give_up_seconds=10),
        caller=saying(HOURS, silence=60.0),
    )
    assert scene.state.outcome == "model_unavailable"
    assert scene.call.end_reason == "app_hung_up"
    assert len(scene.line_starts("sorry_goodbye")) == 1
    gave_up = scene.line_starts("sorry_goodbye")[0] - scene.fired_at()
    assert 9.5 <= gave_up <= 14.0
    assert scene.model.connections >= 5
    assert scene.twice() == scene.unheard() == 0


async def test_model_that_never_comes_back_ends_with_the_human(autojump_clock: Any) -> None:
    scene = await play(
        Fault("close", IN_ANSWER),
        *[Fault("refuse", Trigger(connection=n), status=503) for n in range(2, 9)],
        agent=HUMAN,
    )
    assert scene.model.connections == 3, "one reconnect at once, one retry, then the human"
    assert scene.state.outcome == "transferred"
    assert [d.number for d in scene.call.dials] == [HUMAN.transfer_to]
    assert len(scene.line_starts("connecting")) == 1


async def test_caller_who_speaks_while_the_model_is_away_is_heard_by_its_successor(
    autojump_clock: Any,
) -> None:
    scene = await play(
        Fault("close", Trigger(connection=1, event="response.done", count=1)),
        *[Fault("refuse", Trigger(connection=n), status=503) for n in (2, 3, 4)],
        caller=ask,
    )
    assert ("caller", HOURS) in scene.transcript()
    assert scene.agent_words() == f"{GREETING} {ANSWER}"


async def test_model_lost_before_the_transcript_came_still_knows_what_was_said(autojump_clock: Any) -> None:
    scene = await play(
        Fault("close", Trigger(connection=1, event="input_audio_buffer.committed")),
        options=ModelOptions(transcription="after"),
    )
    assert scene.agent_words() == f"{GREETING} {ANSWER}"
    items: list[Any] = [t.event["item"] for t in scene.model.sessions[1].told if "item" in t.event]
    parts = [part["type"] for item in items for part in item.get("content", ())]
    assert "input_audio" in parts


async def test_model_lost_during_the_greeting_finishes_it(autojump_clock: Any) -> None:
    scene = await play(Fault("close", Trigger(connection=1, reply=1, audio_ms=600)))
    assert scene.agent_words() == f"{GREETING} {ANSWER}"
    assert scene.twice() == scene.unheard() == 0


async def test_model_unreachable_at_first_greets_when_it_is_there(autojump_clock: Any) -> None:
    scene = await play(Fault("refuse", Trigger(connection=1), status=503))
    assert scene.agent_words() == f"{GREETING} {ANSWER}"
    assert [session.connection for session in scene.model.sessions] == [2]


async def test_greeting_that_cannot_be_spoken_yet_is_owed_and_bridged(autojump_clock: Any) -> None:
    refusals = [Fault("refuse", Trigger(connection=n), status=503) for n in range(1, 5)]
    scene = await play(*refusals, caller=saying(HOURS, silence=4.0))
    assert len(scene.line_starts()) == 1
    assert scene.transcript()[-2:] == [("caller", HOURS), ("agent", ANSWER)]
    assert scene.world.of(facts.DeadAir)


async def test_every_reply_measures_its_way_down(autojump_clock: Any) -> None:
    scene = await play()
    assert len(scene.world.of(facts.DownlinkDelay)) >= 2
    assert len(scene.world.of(facts.TurnLatency)) == 1
    assert 0.0 < scene.world.of(facts.TurnLatency)[0].seconds < 2.0


@pytest.mark.parametrize("how", ["stall", "freeze"])
async def test_session_that_went_deaf_before_the_caller_spoke_is_noticed(
    how: Any, autojump_clock: Any
) -> None:
    """Found by simulation: ``callrt sim --faults model``. It had told nothing, so it owed nothing."""
    scene = await play(
        Fault(how, Trigger(connection=1, seconds=3.5)),
        resilience=Resilience(model_stall_seconds=2),
        caller=saying(HOURS, silence=4.0),
    )
    assert scene.model.connections == 2
    assert scene.agent_words() == f"{GREETING} {ANSWER}"
    assert ("caller", HOURS) in scene.transcript()
    # Known after a pause of 0.7 s and the patience of 2 s, whatever the dead socket does.
    assert scene.model.sessions[1].began - scene.call.line.spoke_until <= 2.8


async def test_cough_that_the_model_ignores_costs_no_session(autojump_clock: Any) -> None:
    async def cough(line: Any) -> None:
        await line.wait_for_agent_silence()
        await line.say(bytes([0x80, 0x00]) * 80 * 11)
        await line.wait(8.0)
        line.hang_up()

    scene = await play(caller=cough)
    assert scene.model.connections == 1


async def test_written_reply_is_deleted_so_that_the_spoken_one_is_whole(autojump_clock: Any) -> None:
    """Found by simulation: the model went on after the words that nobody had heard."""
    scene = await play(Fault("text", Trigger(connection=1, reply=2)))
    assert scene.agent_words() == f"{GREETING} {ANSWER}"
