"""Tools, hand-over, bad input and slow peers, over real sockets: what the contract promises of them."""

from __future__ import annotations

import contextlib
import json

import pytest
import trio
from contract_model import Session
from contract_serve import KEY, Results, Scenes, Stage, play
from trio_websocket import ConnectionClosed

scene = Scenes()
TAG = 41_000
RESILIENCE = {
    "model_stall_seconds": 2,
    "model_give_up_seconds": 3,
    "carrier_return_seconds": 5,
    "tool_timeout_seconds": 1.5,
    "max_silence_seconds": 9,
    "max_call_seconds": 30,
}
ALL = [
    f"contract_tools:{name}"
    for name in (
        ["weather", "book", "slow_book", "hang", "hang_async", "crash", "leave", "leave_hard", "flood", "lie"]
    )
]


def asks(*calls: tuple[str, str]):
    """First reply: these calls. Every later one: speech."""

    async def reply(session: Session, turn: int) -> None:
        if turn == 1:
            await session.call(*calls)
        else:
            await session.say("Done.", 800)

    return reply


def one_tool(name: str, arguments: str, check, status: str, seconds: float = 10) -> None:
    async def act(s: Stage) -> None:
        s.brain.on_reply_ = asks((name, arguments))
        phone = s.phone()
        await phone.dial_in()
        phone.speak(TAG, 500)
        await phone.hears(1, 40, seconds)
        session = s.brain.sessions[0]
        ((_, output),) = session.outputs
        check(output)
        assert len(session.requests) == 1, "one reply is asked for"
        await trio.sleep(0.3)
        (tool,) = (await s.shown())["tools"]
        assert tool["name"] == name
        assert tool["status"] == status, tool
        assert tool["started_at"]
        assert tool["ended_at"]
        assert len(s.brain.sessions) == 1
        s.clean()

    act.__name__ = f"tool_{name}_{status}_{len(arguments)}"
    scene(tools=ALL)(act)


def is_error(output: str) -> None:
    assert "error" in output.lower(), output
    assert "4711" not in output
    assert "Traceback" not in output


def contains(text: str):
    def check(output: str) -> None:
        assert text in output, output

    return check


def is_cut(output: str) -> None:
    assert 10_000 < len(output.encode()) <= 16 * 1024 + 200, len(output.encode())


one_tool("weather", '{"city": "Rome"}', contains("sunny in Rome"), "ok")
one_tool("hang", "{}", is_error, "timeout")
one_tool("hang_async", "{}", is_error, "timeout")
one_tool("crash", "{}", is_error, "error")
one_tool("leave", "{}", is_error, "error")
one_tool("leave_hard", "{}", is_error, "error")
one_tool("flood", "{}", is_cut, "ok")
one_tool("nobody_knows", "{}", is_error, "error")
one_tool("weather", '{"town": 3}', is_error, "error")
one_tool("weather", '{"city": "Ro', is_error, "error")
one_tool("weather", "[1, 2]", is_error, "error")


@scene(tools=ALL)
async def several_calls_each_get_one_output(s: Stage) -> None:
    s.brain.on_reply_ = asks(
        ("weather", '{"city": "Rome"}'), ("crash", "{}"), ("hang", "{}"), ("book", '{"slot": "A"}')
    )
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 40)
    session = s.brain.sessions[0]
    await phone.until(lambda: len(session.outputs) >= 4, 10, "outputs")
    assert len({call for call, _ in session.outputs}) == 4
    assert 1 <= len(session.requests) <= 2
    s.clean()


@scene(tools=ALL)
async def calls_of_a_cancelled_reply_run_nothing(s: Stage) -> None:
    async def reply(session: Session, turn: int) -> None:
        if turn == 1:
            await session.call(("book", '{"slot": "HALF"}'), status="incomplete")
        else:
            await session.say("Well.", 600)

    s.brain.on_reply_ = reply
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await trio.sleep(2.5)
    assert "HALF" not in booked(s)
    s.clean()


def booked(s: Stage, name: str = "booked.txt") -> str:
    path = s.callrt.folder / name
    return path.read_text() if path.exists() else ""


@scene(tools=ALL)
async def side_effects_once_across_model_sessions(s: Stage) -> None:
    """The model dies while the tool runs; its successor asks for the same again, under another call's id."""

    async def reply(session: Session, turn: int) -> None:
        if session.number == 1:
            await session.call(("slow_book", '{"slot": "ONCE"}'))
            await trio.sleep(0.5)
            await session.close(1011)
        elif turn == 1 and not session.outputs:
            await session.call(("slow_book", '{"slot":"ONCE"}'))
        else:
            await session.say("It is booked.", 600)

    s.brain.on_reply_ = reply
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 30, 20)
    assert booked(s, "slow_booked.txt").count("ONCE") == 1
    assert "booked ONCE" in s.brain.sessions[1].outputs[-1][1], s.brain.sessions[1].outputs
    s.clean()


@scene(tools=ALL)
async def other_requests_under_repeated_ids_run(s: Stage) -> None:
    """Call ids that begin anew in each session name other calls."""

    async def reply(session: Session, turn: int) -> None:
        if turn == 1:
            await session.call(("book", json.dumps({"slot": f"S{session.number}"})))
        elif session.number == 1:
            await session.say("One.", 600)
            await trio.sleep(1)
            await session.close(1011)
        else:
            await session.say("Two.", 600)

    s.brain.on_reply_ = reply
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.until(
        lambda: len(s.brain.sessions) == 2 and s.brain.sessions[1].live_at, 10, "second session"
    )
    await trio.sleep(0.3)
    phone.speak(TAG + 1, 500)
    await phone.hears(2, 30)
    assert booked(s).count("S1") == 1
    assert booked(s).count("S2") == 1
    outputs = [o for c, o in s.brain.sessions[1].outputs]
    assert any("booked S2" in o for o in outputs), outputs
    s.clean()


@scene(tools=ALL)
async def audio_is_not_delayed_by_tools(s: Stage) -> None:
    """A reply that speaks on while its tools hang, crash and flood: no hole in the speech."""

    async def reply(session: Session, turn: int) -> None:
        if turn == 1:
            await session.call(("flood", "{}"), ("hang_async", "{}"), ("leave_hard", "{}"), ("crash", "{}"))
            await session.say("While you wait, I tell you a story.", 2400)
        else:
            await session.say("Done.", 600)

    s.brain.on_reply_ = reply
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 120)
    places = [(at, place) for at, who, place in phone.heard() if who == 1]
    begin = places[0][0]
    late = max(at - begin - place * 0.02 for at, place in places)
    assert late < 0.1 + 2 * s.lag.since(begin), late
    await phone.hears(2, 30)
    s.clean()


# -- end and hand-over --------------------------------------------------------------------------------------


@scene()
async def the_agent_ends_the_call(s: Stage) -> None:
    async def reply(session: Session, turn: int) -> None:
        await session.say("Goodbye then.", 1000, then_tools=(("end_call", "{}"),))

    s.brain.on_reply_ = reply
    phone = s.phone()
    await phone.dial_in()
    await phone.until(lambda: s.brain.sessions and s.brain.sessions[0].live_at, 5, "a session")
    assert "end_call" in [tool["name"] for tool in s.brain.sessions[0].config["tools"]]
    phone.speak(TAG, 500)
    await phone.until(phone.over.is_set, 10, "the end")
    assert len(set(phone.voice(1))) == 50, "the last words were heard"
    shown = await s.ended()
    assert shown["outcome"] == "completed"
    assert shown["transcript"][-1]["text"] == "Goodbye then."
    s.clean()


@scene(
    transfer_to="+15550100009",
    transfer_sms=True,
    transfer_webhook="http://127.0.0.1:REST_PORT/hook",
)
async def the_agent_transfers(s: Stage) -> None:
    async def reply(session: Session, turn: int) -> None:
        if turn == 1:
            await session.say(
                "I put you through.", 800, then_tools=(("transfer_to_human", '{"reason": "wants a human"}'),)
            )

    s.brain.on_reply_ = reply
    phone = s.phone()
    phone.dial_result = "no-answer"
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.until(lambda: phone.dialled, 12, "dial")
    await phone.until(phone.over.is_set, 10, "the end")
    assert len(set(phone.voice(1))) == 40
    assert phone.said, "nobody there: the caller is told"
    shown = await s.ended()
    assert shown["outcome"] == "failed", "nobody took the call"
    await phone.until(
        lambda: s.rest.posted and any("Body" in f for _, _, f in s.rest.asked), 5, "SMS and hook"
    )
    (sms,) = [form for _, path, form in s.rest.asked if path.endswith("Messages.json")]
    assert sms["To"] == "+15550100009"
    assert f"caller turn {TAG}" in sms["Body"]
    assert len(sms["Body"]) <= 1600
    assert f"caller turn {TAG}" in json.dumps(s.rest.posted)
    s.clean()


@scene()
async def digits_reach_the_model(s: Stage) -> None:
    phone = s.phone()
    first = await phone.dial_in()
    await phone.until(lambda: s.brain.sessions and s.brain.sessions[0].live_at, 5)
    for digit in "4711#":
        await first.event("dtmf", dtmf={"track": "inbound_track", "digit": digit})
    await phone.hears(1, 30)
    told = " ".join(text for _, text in s.brain.sessions[0].told())
    assert "".join(letter for letter in told if letter in "0123456789#*") == "4711#", told
    s.clean()


@scene(record=True)
async def recorded_calls_leave_a_file(s: Stage) -> None:
    phone = s.phone()
    first = await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 30)
    await trio.sleep(0.2)
    await first.hang_up()
    await s.ended()
    await trio.sleep(0.5)
    files = list((s.callrt.folder / "recordings").glob("*"))
    assert [file for file in files if phone.sid in file.name and file.suffix == ".wav"], files
    file = next(file for file in files if phone.sid in file.name)
    head = file.read_bytes()[:44]
    assert head[:4] == b"RIFF"
    assert int.from_bytes(head[22:24], "little") == 2
    assert int.from_bytes(head[24:28], "little") == 8000


@scene()
async def nobody_speaks(s: Stage) -> None:
    phone = s.phone()
    begin = trio.current_time()
    await phone.dial_in()
    shown = await s.ended(seconds=25)
    assert shown["outcome"] == "silence"
    assert 9 <= trio.current_time() - begin < 9 + 8
    assert phone.lines(), "a goodbye"


@scene()
async def the_longest_call(s: Stage) -> None:
    async def reply(session: Session, turn: int) -> None:
        await session.say("On and on and on.", 60_000)

    s.brain.on_reply_ = reply
    phone = s.phone()
    begin = trio.current_time()
    await phone.dial_in()
    phone.speak(TAG, 500)
    shown = await s.ended(seconds=40)
    assert shown["outcome"] == "max_duration"
    assert 30 <= trio.current_time() - begin < 30 + 5 + 2


@scene()
async def stop_during_the_greeting(s: Stage) -> None:
    phone = s.phone()
    first = await phone.dial_in()
    await first.hang_up()
    shown = await s.ended()
    assert shown["outcome"] == "caller_hung_up", shown


# -- bad input ----------------------------------------------------------------------------------------------


BAD = [
    "{",
    "[]",
    "null",
    "",
    '"x"',
    '{"event": 7}',
    '{"event": "media"}',
    '{"event": "media", "media": 3}',
    '{"event": "media", "media": {"payload": 3}}',
    '{"event": "media", "media": {"payload": "***"}}',
    '{"event": "media", "media": {"track": "inbound", "timestamp": "-99999999999999", "payload": "/w=="}}',
    '{"event": "media", "media": {"track": "inbound", "timestamp": "1e99", "chunk": "x", "payload": "/w=="}}',
    '{"event": "media", "sequenceNumber": "NaN", "streamSid": "MZother", "media": {"payload": "/w=="}}',
    '{"event": "mark", "mark": {}}',
    '{"event": "mark", "streamSid": "MZother", "mark": {"name": "nobody"}}',
    '{"event": "dtmf", "dtmf": {"digit": "Z"}}',
    '{"event": "start", "start": {}}',
    '{"event": "stop", "streamSid": "MZother", "stop": {}}',
    '{"event": "something-new", "x": 1}',
    "\x00\x01",
    "{" * 5000,
    '{"event": "media", "x": ' + "[" * 3000 + "]" * 3000 + "}",
    b"\x00\xff\xfe binary",
    b"",
]


@scene()
async def bad_messages_of_the_carrier(s: Stage) -> None:
    s.brain.on_reply_ = None
    phone = s.phone()
    first = await phone.dial_in()
    for message in BAD * 3:
        await first.send(message)
    phone.speak(TAG, 500)
    await phone.hears(1, 30)
    for timestamp in (10**9, 5, -(10**12), 2**70):
        await first.event(
            "media",
            media={"track": "inbound", "chunk": "1", "timestamp": str(timestamp), "payload": "/////w=="},
        )
    phone.speak(TAG + 1, 500)
    await phone.hears(2, 30)
    assert len(phone.streams) == 1
    await first.hang_up()
    shown = await s.ended()
    assert shown["outcome"] == "caller_hung_up"
    about = [
        line
        for line in s.callrt.log.read_text().splitlines()
        if phone.sid in line and "not understood" in line
    ]
    assert len(about) == 1, about
    s.clean()


def bad_carrier_input(s: Stage) -> float:
    found = s.callrt.metrics().items()
    return sum(
        value for name, value in found if name.startswith("callrt_bad_input_total") and '"carrier"' in name
    )


@scene()
async def a_huge_message_of_the_carrier(s: Stage) -> None:
    phone = s.phone()
    first = await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 30)
    before = bad_carrier_input(s)
    with contextlib.suppress(ConnectionClosed):
        await first.send('{"event": "media", "x": "' + "y" * 300_000 + '"}')
    await trio.sleep(1)
    assert bad_carrier_input(s) > before, "refused and counted"
    phone.speak(TAG + 1, 500)
    await phone.hears(2, 30)
    assert (await s.shown())["state"] == "live"
    s.clean()


@scene()
async def bad_messages_of_the_model(s: Stage) -> None:
    async def reply(session: Session, turn: int) -> None:
        bad = [
            b"\x00\x01",
            "{",
            "[]",
            "null",
            "7",
            '{"type": 5}',
            '{"type": "response.output_audio.delta"}',
            '{"type": "response.output_audio.delta", "item_id": 5, "delta": "***", "response_id": 3}',
            '{"type": "response.done"}',
            '{"type": "response.done", "response": 5}',
            '{"type": "session.created"}',
            '{"type": "error"}',
            '{"type": "error", "error": "text"}',
            '{"type": "input_audio_buffer.speech_stopped"}',
            '{"type": "conversation.item.input_audio_transcription.completed", "item_id": "i999"}',
            '{"type": "conversation.item.truncated", "item_id": "i999", "audio_end_ms": "x"}',
            '{"type": "response.output_item.done", "item": {"type": "function_call"}}',
            '{"type": "surprise.event", "a": 1}',
            "{" * 10_000,
        ]
        for message in bad * 2:
            await session.raw(message)
        await session.say("Still here.", 800)

    s.brain.on_reply_ = reply
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 40)
    assert len(s.brain.sessions) == 1, "the session survives"
    about = [
        line
        for line in s.callrt.log.read_text().splitlines()
        if phone.sid in line and "not understood" in line
    ]
    assert len(about) == 1, about
    s.clean()


# -- slow peers -----------------------------------------------------------------------------------------------


@scene()
async def a_slow_reader_at_the_carrier(s: Stage) -> None:
    async def reply(session: Session, turn: int) -> None:
        await session.say("A very long story.", 120_000 if turn == 1 else 500)

    s.brain.on_reply_ = reply
    phone, other = s.phone(), s.phone()
    first = await phone.dial_in()
    before = s.callrt.memory()
    first.reading = False
    phone.speak(TAG, 500)
    await trio.sleep(4)
    assert s.callrt.memory() - before < 60
    await other.dial_in()
    other.speak(TAG, 500)
    await other.hears(2, 20)


@scene()
async def a_flooding_carrier(s: Stage) -> None:
    phone, other = s.phone(), s.phone()
    first = await phone.dial_in()
    message = json.dumps(
        {
            "event": "media",
            "streamSid": first.sid,
            "media": {"track": "inbound", "payload": "/" * 212 + "/w=="},
        }
    )
    flooding = trio.CancelScope()

    async def flood() -> None:
        with flooding:
            try:
                for _ in range(20_000):
                    await first.send(message)
            except Exception:
                return

    before = s.callrt.memory()
    s.nursery.start_soon(flood)
    await other.dial_in()
    other.speak(TAG, 500)
    await other.hears(1, 30)
    assert s.callrt.memory() - before < 80
    flooding.cancel()


@scene()
async def a_model_that_does_not_read(s: Stage) -> None:
    async def reply(session: Session, turn: int) -> None:
        if session.number == 1:
            await session.say("First.", 600)
            session.frozen = True
        else:
            await session.say("Second.", 600)

    s.brain.on_reply_ = reply
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 30)
    before = s.callrt.memory()
    await trio.sleep(3)
    assert s.callrt.memory() - before < 60


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return play(tmp_path_factory.mktemp("tools"), scene, RESILIENCE, at_once=8)


@pytest.mark.parametrize("name", scene.names)
def test_contract_tools(name: str, results: Results) -> None:
    results.check(name)


def test_contract_metrics_are_all_there_and_move(results: Results) -> None:
    seconds = [
        "turn_latency",
        "uplink_delay",
        "downlink_delay",
        "dead_air",
        "journal_commit",
        "event_loop_lag",
    ]
    for name in seconds:
        assert results.metrics.get(f"callrt_{name}_seconds_count", 0) > 0, name
    for name in ("model_recovery", "carrier_recovery", "barge_in"):
        assert f"callrt_{name}_seconds_count" in results.metrics, name
    assert results.metrics['callrt_tool_seconds_count{status="ok",tool="weather"}'] >= 1
    assert results.metrics['callrt_calls_total{outcome="caller_hung_up"}'] >= 1
    assert any(name.startswith("callrt_build_info{") and "version=" in name for name in results.metrics)
    assert any(
        name.startswith("callrt_bad_input_total{") and 'source="carrier"' in name for name in results.metrics
    )
    assert "callrt_calls_live" in results.metrics


def test_contract_secrets_and_voices_stay_in(results: Results) -> None:
    metrics = "\n".join(results.metrics)
    for secret in (KEY, "5f1c" * 8, "+1555", "caller turn", "Done.", "4711", "wants a human", "sunny"):
        assert secret not in results.log, secret
        assert secret not in metrics, secret
    assert "Traceback" not in results.log
