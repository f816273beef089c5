"""Each fault of the emulated service strikes at its exact point, as often as it should, and nowhere
else."""

from __future__ import annotations

import base64
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from testing_model_helpers import GREETING, HEADERS, SLOT, URL, Client, emulated, opened, utterance

from callrt.testing.model_core import ModelOptions
from callrt.testing.model_faults import ACCOUNT_WIDE, Fault, Trigger
from callrt.testing.model_reply import Pace
from callrt.testing.model_server import EmulatedModel
from callrt.wire.transport import TransportClosed
from callrt.wire.websocket import UpgradeRefused

Clock = trio.testing.MockClock
GREET = {"instructions": f'say exactly: "{GREETING}"'}


async def closed(client: Client) -> TransportClosed:
    with trio.fail_after(300):
        while True:
            try:
                await client.next()
            except TransportClosed as end:
                return end


async def greet(client: Client) -> dict[str, Any]:
    client.send("response.create", response=GREET)
    return (await client.until("response.done"))["response"]


# -- at the door --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_refused_upgrade_has_its_status_and_only_on_its_connection(
    autojump_clock: Clock, status: int
) -> None:
    model = emulated(Fault("refuse", Trigger(connection=2), status=status, retry_after=7.0))
    async with opened(model):
        pass
    with pytest.raises(UpgradeRefused) as caught:
        async with opened(model):
            pass
    assert (caught.value.status, caught.value.retry_after) == (status, 7.0)
    async with opened(model) as client:
        await client.configure()
    assert model.connections == 3
    assert len(model.sessions) == 2


@pytest.mark.parametrize(
    ("headers", "url", "status"),
    [
        ([], URL, 401),
        ([(b"authorization", b"Basic x")], URL, 401),
        (HEADERS, "ws://model.test/v1/realtime", 400),
        (HEADERS, "ws://model.test/v2/realtime?model=x", 404),
        (HEADERS, "ws://model.test/v1/realtime?model=gpt-secret", 403),
    ],
)
async def test_door_refuses_what_the_service_refuses(
    autojump_clock: Clock, headers: Any, url: str, status: int
) -> None:
    model = emulated(models=frozenset({"gpt-realtime-2.1"}))
    with pytest.raises(UpgradeRefused) as caught:
        async with model.open_link(url, headers):
            pass
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("extra", "key", "code", "reason"),
    [
        ([], "sk-right", 3000, "invalid_request_error.invalid_api_key"),
        ([(b"OpenAI-Beta", b"realtime=v1")], None, 4000, "invalid_request_error.beta_api_shape_disabled"),
    ],
)
async def test_bad_key_and_beta_header_fail_after_the_upgrade(
    autojump_clock: Clock, extra: Any, key: str | None, code: int, reason: str
) -> None:
    model = emulated(api_key=key)
    async with model.open_link(URL, [*HEADERS, *extra]) as link:
        assert '"error"' in str(await link.receive())
        with pytest.raises(TransportClosed) as caught:
            await link.receive()
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert model.sessions == []


async def test_accepted_upgrade_may_be_followed_by_an_error_and_a_close(autojump_clock: Clock) -> None:
    model = emulated(
        Fault("error_then_close", Trigger(connection=1), error_code="insufficient_quota", code=4008)
    )
    async with model.open_link(URL, HEADERS) as link:
        assert "insufficient_quota" in str(await link.receive())
        with pytest.raises(TransportClosed) as caught:
            await link.receive()
    assert caught.value.code == 4008


# -- sudden -------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(audio_ms=st.integers(1, 2000), seed=st.integers(0, 50))
def test_close_strikes_at_the_exact_millisecond_of_reply_audio(audio_ms: int, seed: int) -> None:
    async def main() -> None:
        model = emulated(
            Fault("close", Trigger(audio_ms=audio_ms), code=1011, reason="server fault"), seed=seed
        )
        async with opened(model) as client:
            await client.configure()
            client.send("response.create", response=GREET)
            end = await closed(client)
            assert (end.code, end.reason) == (1011, "server fault")
            deltas = client.of("response.output_audio.delta")
            assert sum(len(base64.b64decode(delta["delta"])) for delta in deltas) == audio_ms * 8
            assert client.session.spoken[0].sent_ms == audio_ms

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    "fault",
    [Fault("close", code=code) for code in (1001, 1011, 1012, 1013, 3000, 4000)] + [Fault("abort")],
)
async def test_socket_ends_with_the_code_named(autojump_clock: Clock, fault: Fault) -> None:

    model = emulated(attrs.evolve(fault, at=Trigger(event="response.output_audio.delta", count=2)))
    async with opened(model) as client:
        await client.configure()
        client.send("response.create", response=GREET)
        end = await closed(client)
        assert end.code == (None if fault.kind == "abort" else fault.code)
        assert len(client.of("response.output_audio.delta")) == 2
    async with opened(model) as client:
        await client.configure()
        assert (await greet(client))["status"] == "completed"
    assert [fired.connection for fired in model.plan.fired] == [1]


async def test_time_is_a_trigger(autojump_clock: Clock) -> None:
    async with opened(emulated(Fault("abort", Trigger(seconds=12.5)))) as client:
        await closed(client)
        assert trio.current_time() == 12.5


async def test_client_events_are_triggers_too(autojump_clock: Clock) -> None:
    async with opened(
        emulated(Fault("abort", Trigger(event="input_audio_buffer.append", count=10)))
    ) as client:
        await client.configure()
        for _ in range(12):
            client.link.send_nowait('{"type":"input_audio_buffer.append","audio":""}')
        await closed(client)
        assert client.session.counts["input_audio_buffer.append"] == 10


async def test_stalled_session_says_nothing_and_swallows_everything(autojump_clock: Clock) -> None:
    model = emulated(Fault("stall", Trigger(event="response.created")))
    async with opened(model) as client:
        await client.configure()
        client.send("response.create", response=GREET)
        await client.until("response.created")
        client.send("response.cancel")
        assert not await client.collect(600)
        assert not client.link.has_ended


async def test_stall_that_passes_delivers_everything_late(autojump_clock: Clock) -> None:
    model = emulated(Fault("stall", Trigger(event="response.created"), seconds=30))
    async with opened(model) as client:
        await client.configure()
        client.send("response.create", response=GREET)
        await client.until("response.created")
        assert not await client.collect(29.9)
        assert (await client.until("response.done"))["response"]["status"] == "completed"
        assert trio.current_time() >= 30


async def test_frozen_link_is_half_open(autojump_clock: Clock) -> None:
    async with opened(emulated(Fault("freeze", Trigger(audio_ms=500)))) as client:
        await client.configure()
        client.send("response.create", response=GREET)
        await client.collect(600)
        assert client.link.is_frozen
        assert client.session.spoken[0].sent_ms == 500
        with trio.move_on_after(60) as limit:
            await client.link.ping()
        assert limit.cancelled_caught


@pytest.mark.parametrize("with_error", [True, False])
async def test_expired_session_closes_cleanly_with_or_without_an_error(
    autojump_clock: Clock, with_error: bool
) -> None:
    async with opened(emulated(Fault("expire", Trigger(audio_ms=300), with_error=with_error))) as client:
        await client.configure()
        client.send("response.create", response=GREET)
        end = await closed(client)
        assert end.code == 1001
        assert end.reason.startswith("Your session hit the maximum duration")
        codes = [event["error"]["code"] for event in client.of("error")]
        assert codes == (["session_expired"] if with_error else [])


@pytest.mark.parametrize("code", ACCOUNT_WIDE)
async def test_account_wide_errors_leave_the_socket_open(autojump_clock: Clock, code: str) -> None:
    async with opened(emulated(Fault("error", Trigger(event="session.updated"), error_code=code))) as client:
        await client.configure()
        assert (await client.until("error"))["error"]["code"] == code
        await client.configure()


@pytest.mark.parametrize("stage", ["created", "item", "audio", "done"])
async def test_reply_fails_at_its_stage(autojump_clock: Clock, stage: Any) -> None:
    fault = Fault(
        "fail", Trigger(reply=2), stage=stage, error_code="rate_limit_exceeded", error_type="tokens"
    )
    async with opened(emulated(fault)) as client:
        await client.configure()
        assert (await greet(client))["status"] == "completed"
        spoken = len(client.of("response.output_audio.delta"))
        failed = await greet(client)
        assert failed["status_details"]["error"] == {
            "type": "tokens",
            "code": "rate_limit_exceeded",
            "message": "The emulated service failed to make this response.",
        }
        states = [item["status"] for item in failed["output"]]
        assert (
            states
            == {"created": [], "item": ["incomplete"], "audio": ["incomplete"], "done": ["completed"]}[stage]
        )
        assert (len(client.of("response.output_audio.delta")) > spoken) == (stage in ("audio", "done"))
        if stage == "created":
            assert failed["usage"]["total_tokens"] == 0
        assert (await greet(client))["status"] == "completed"


async def test_reply_may_fail_at_an_exact_millisecond(autojump_clock: Clock) -> None:
    async with opened(emulated(Fault("fail", Trigger(reply=1, audio_ms=777)))) as client:
        await client.configure()
        assert (await greet(client))["status"] == "failed"
        assert client.session.spoken[0].sent_ms == 777


async def test_poisoned_session_fails_every_later_reply_and_a_new_one_does_not(autojump_clock: Clock) -> None:
    model = emulated(Fault("poison", Trigger(reply=2)))
    async with opened(model) as client:
        await client.configure()
        states = [(await greet(client))["status"] for _ in range(4)]
        assert states == ["completed", "failed", "failed", "failed"]
    async with opened(model) as client:
        await client.configure()
        assert (await greet(client))["status"] == "completed"


@pytest.mark.parametrize("form", ["binary", "not_json", "not_object", "huge"])
async def test_garbage_is_one_frame_and_the_session_goes_on(autojump_clock: Clock, form: Any) -> None:
    async with opened(emulated(Fault("garbage", Trigger(event="session.updated"), form=form))) as client:
        await client.configure()
        frame = await client.link.receive()
        assert isinstance(frame, bytes) == (form == "binary")
        assert (len(frame) > 1_000_000) == (form == "huge")
        assert (await greet(client))["status"] == "completed"


async def test_unknown_events_and_extra_keys_come_when_asked_for(autojump_clock: Clock) -> None:
    model = emulated(Fault("unknown_event", Trigger(reply=1)), Fault("extra_keys", Trigger(reply=1)))
    async with opened(model) as client:
        client.judged = False
        await client.configure()
        await greet(client)
        assert len(client.of("response.premonition.delta")) == 1
        assert all("x_unheard_of" in event for event in client.of("response.output_audio.delta"))


async def test_phantom_speech_interrupts_and_commits_noise(autojump_clock: Clock) -> None:
    options = ModelOptions(pace=Pace(rate=(1, 1)))
    model = emulated(Fault("phantom_speech", Trigger(audio_ms=500)), options=options)
    async with opened(model) as client:
        await client.configure()
        done = await greet(client)
        assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        await client.until("input_audio_buffer.committed")
        assert client.session.caller_turns[0].understood == "(unintelligible)"
        assert (await client.until("response.done"))["response"]["status"] == "completed"


async def test_pongs_may_be_late(autojump_clock: Clock) -> None:
    async with opened(emulated(Fault("slow_pongs", Trigger(event="session.created"), seconds=25))) as client:
        await client.configure()
        await client.link.ping()
        assert trio.current_time() == 25


# -- armed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["session.created", "response.created", "response.done"])
async def test_dropped_event_is_missing_once(autojump_clock: Clock, event: str) -> None:
    async with opened(emulated(Fault("drop", event=event))) as client:
        await client.configure()
        for _ in range(2):
            client.send("response.create", response=GREET)
            await client.until("rate_limits.updated")
        assert len(client.of(event)) == (0 if event == "session.created" else 1)


async def test_duplicate_comes_twice_with_one_id(autojump_clock: Clock) -> None:
    async with opened(emulated(Fault("duplicate", event="conversation.item.added"))) as client:
        await client.configure()
        await greet(client)
        first, second = client.of("conversation.item.added")
        assert first == second


async def test_committed_turn_may_stay_unanswered_until_the_next(autojump_clock: Clock) -> None:
    async with opened(emulated(Fault("no_reply"))) as client:
        await client.configure()
        await client.say(utterance("I need an appointment"))
        events = await client.collect(30)
        assert "response.created" not in [event["type"] for event in events]
        client.send("response.create")
        await client.until("response.done")
        assert client.of("response.output_audio_transcript.done")[0]["transcript"] == SLOT


@pytest.mark.parametrize("after_done", [False, True])
async def test_late_deltas_follow_a_cancel(autojump_clock: Clock, after_done: bool) -> None:
    options = ModelOptions(pace=Pace(rate=(1, 1)))
    model = emulated(Fault("late_deltas", ms=600, after_done=after_done), options=options)
    async with opened(model) as client:
        await client.configure()
        client.send("response.create", response=GREET)
        await client.until("response.output_audio.delta")
        client.send("response.cancel")
        events = [*client.events, *(await client.collect(5))]
        kinds = [event["type"] for event in events]
        last_delta = len(kinds) - 1 - kinds[::-1].index("response.output_audio.delta")
        assert (last_delta > kinds.index("response.done")) == after_done
        item = client.session.spoken[0]
        assert len(client.audio_of(item.id)) == len(item.audio) + 600 * 8


async def test_split_reply_has_the_same_words_in_two_items(autojump_clock: Clock) -> None:
    async with opened(emulated(Fault("split", Trigger(reply=1)))) as client:
        await client.configure()
        output = (await greet(client))["output"]
        assert len(output) == 2
        assert " ".join(item["content"][0]["transcript"] for item in output) == GREETING


@pytest.mark.parametrize("rate", [0.5, 10.0])
async def test_audio_trickles_or_bursts_at_the_rate_named(autojump_clock: Clock, rate: float) -> None:
    async with opened(emulated(Fault("rate", rate=rate))) as client:
        await client.configure()
        await greet(client)
        took = client.times[-1] - client.times[client.events.index(client.of("response.created")[0])] - 0.3
        assert took == pytest.approx(client.session.spoken[0].sent_ms / 1000 / rate, abs=0.01)


async def test_reply_may_come_as_text_on_an_audio_session(autojump_clock: Clock) -> None:
    async with opened(emulated(Fault("text"))) as client:
        await client.configure()
        done = await greet(client)
        assert done["output"][0]["content"] == [{"type": "output_text", "text": GREETING}]
        assert client.of("response.output_audio.delta") == []
        assert (await greet(client))["output"][0]["content"][0]["type"] == "output_audio"


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter"])
async def test_incomplete_reply_stops_half_way_or_is_withheld(autojump_clock: Clock, reason: str) -> None:
    async with opened(emulated(Fault("incomplete", reason=reason))) as client:
        await client.configure()
        done = await greet(client)
        assert done["status_details"] == {"type": "incomplete", "reason": reason}
        if reason == "content_filter":
            assert client.session.spoken == [], "withheld as a whole"
            assert client.of("response.output_audio.delta") == []
            return
        item = client.session.spoken[0]
        assert item.sent_ms == item.words[-1].end_ms // 2


async def test_transcript_of_one_turn_may_fail(autojump_clock: Clock) -> None:
    async with opened(emulated(Fault("transcription", mode="failed"))) as client:
        await client.configure()
        for _ in range(2):
            await client.say(utterance("I need an appointment"))
            await client.collect(20)
        name = "conversation.item.input_audio_transcription."
        assert [len(client.of(name + end)) for end in ("failed", "completed")] == [1, 1]


# -- the plan -----------------------------------------------------------------------------------------


def test_trigger_has_at_most_one_moment() -> None:
    with pytest.raises(ValueError, match="at most one"):
        Trigger(event="response.done", seconds=1)
    with pytest.raises(ValueError, match="starts at 1"):
        Trigger(event="response.done", count=0)


async def test_fault_without_a_limit_strikes_in_every_session(autojump_clock: Clock) -> None:
    model: EmulatedModel = emulated(Fault("abort", Trigger(seconds=1), times=None))
    for _ in range(3):
        async with opened(model) as client:
            await closed(client)
    assert [fired.connection for fired in model.plan.fired] == [1, 2, 3]


async def test_nothing_is_left_when_the_client_goes(autojump_clock: Clock) -> None:
    model = emulated()
    before = trio.lowlevel.current_statistics().tasks_living
    for _ in range(20):
        async with opened(model) as client:
            await client.configure()
            client.send("response.create", response=GREET)
            await client.until("response.output_audio.delta")
            client.link.abort()
    assert model.live == 0
    assert trio.lowlevel.current_statistics().tasks_living == before


KINDS: list[Fault] = [
    Fault("close"),
    Fault("abort"),
    Fault("stall"),
    Fault("stall", seconds=3),
    Fault("expire", with_error=True),
    Fault("error"),
    Fault("poison"),
    Fault("fail"),
    Fault("unknown_event"),
    Fault("garbage"),
    Fault("extra_keys"),
    Fault("phantom_speech"),
    Fault("drop", event="response.done"),
    Fault("duplicate", event="response.created"),
    Fault("no_reply"),
    Fault("late_deltas", after_done=True),
    Fault("split"),
    Fault("rate", rate=0.5),
    Fault("text"),
    Fault("incomplete"),
    Fault("transcription"),
]
MOMENTS = st.one_of(
    st.just(Trigger()),
    st.integers(1, 3).map(lambda number: Trigger(reply=number)),
    st.integers(1, 5000).map(lambda ms: Trigger(audio_ms=ms)),
    st.floats(0, 30).map(lambda seconds: Trigger(seconds=seconds)),
    st.tuples(
        st.sampled_from(
            [
                "response.created",
                "response.output_audio.delta",
                "input_audio_buffer.speech_started",
                "response.done",
            ]
        ),
        st.integers(1, 4),
    ).map(lambda pair: Trigger(event=pair[0], count=pair[1])),
)


@settings(max_examples=30, deadline=None)
@given(drawn=st.lists(st.tuples(st.sampled_from(KINDS), MOMENTS), max_size=5), seed=st.integers(0, 3))
def test_any_storm_of_faults_leaves_a_service_that_ends_and_audio_that_adds_up(
    drawn: list[tuple[Fault, Trigger]], seed: int
) -> None:

    async def main() -> None:
        model = emulated(*(attrs.evolve(fault, at=at) for fault, at in drawn), seed=seed)
        async with opened(model) as client:
            client.judged = False
            client.link.send_nowait(
                '{"type":"session.update","session":{"type":"realtime","audio":{"input":{"format":'
                '{"type":"audio/pcmu"}},"output":{"format":{"type":"audio/pcmu"}}}}}'
            )
            with trio.move_on_after(120):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_talk, client)
                    try:
                        while True:
                            await client.link.receive()
                    except TransportClosed:
                        nursery.cancel_scope.cancel()
            session = client.session
            for reply in session.replies:
                sent = sum(len(item.audio) for item in reply.items)
                assert sent == reply.sent_bytes
                assert reply.status == "in_progress" or not reply.steps
            for item in session.spoken:
                assert item.sent_ms <= item.words[-1].end_ms
        assert model.live == 0

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def _talk(client: Client) -> None:
    for _ in range(3):
        for at in range(0, len(utterance("I need an appointment")) + 6400, 160):
            frame = utterance("I need an appointment")[at : at + 160].ljust(160, b"\xff")
            encoded = base64.b64encode(frame).decode()
            client.link.send_nowait(f'{{"type":"input_audio_buffer.append","audio":"{encoded}"}}')
            await trio.sleep(0.02)
        await trio.sleep(5)
