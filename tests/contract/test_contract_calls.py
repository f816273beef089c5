"""Whole calls over real sockets, against peers that know only the protocols: what the contract promises of them."""

from __future__ import annotations

import itertools

import pytest
import trio
from contract_model import Session
from contract_serve import Results, Scenes, Stage, play

scene = Scenes()
TAG = 40_000
RESILIENCE = {
    "model_stall_seconds": 2,
    "model_give_up_seconds": 3,
    "carrier_return_seconds": 6,
    "tool_timeout_seconds": 1.5,
    "max_silence_seconds": 12,
    "max_call_seconds": 40,
}
SLACK = 0.15
"""A loaded machine."""


def by_turns(*steps):
    """Replies of a whole call, in order, whatever session they are asked in."""
    left = list(steps)

    async def reply(session: Session, turn: int) -> None:
        step = left.pop(0) if left else None
        if step is None:
            await session.say("Nothing more to say.", 400)
        else:
            await step(session)

    return reply


def says(words: str, ms: int, **options):
    async def step(session: Session) -> None:
        await session.say(words, ms, **options)

    return step


def texts(shown, role=None):
    return [line["text"] for line in shown["transcript"] if role in (None, line["role"])]


def in_order(places: list[int], expected: range, twice: int, lost: int) -> None:
    """Heard in order; at most so many frames twice, so many lost."""
    seen = set(places)
    missing = [place for place in expected if place not in seen]
    assert len(missing) <= lost, f"lost {missing}"
    assert len(places) - len(seen) <= twice, f"heard twice: {len(places) - len(seen)}"
    steps = [b - a for a, b in itertools.pairwise(places)]
    assert sum(1 for step in steps if step < 1) <= 1, "more than one jump back"


# -- a plain call -----------------------------------------------------------------------------------------


@scene(greeting="Hello, this is the clinic.")
async def a_plain_call(s: Stage) -> None:
    s.brain.on_reply_ = by_turns(says("Hello, this is the clinic.", 700), says("On Monday at ten.", 900))
    phone = s.phone()
    first = await phone.dial_in()
    await phone.hears(1, 35)
    phone.speak(TAG, 600)
    await phone.hears(2, 45)
    await trio.sleep(0.3)
    live = await s.shown()
    assert live["state"] == "live"
    assert live["outcome"] is None
    assert live["ended_at"] is None
    await first.hang_up()
    shown = await s.ended()
    assert shown["outcome"] == "caller_hung_up"
    assert [line["role"] for line in shown["transcript"]] == ["agent", "caller", "agent"]
    assert texts(shown) == ["Hello, this is the clinic.", f"caller turn {TAG}", "On Monday at ten."]
    assert all(line["interrupted"] is False for line in shown["transcript"])
    for key in ("call_sid", "agent", "carrier", "started_at", "restarts", "tools"):
        assert key in shown
    (stream,) = shown["streams"]
    assert stream["stream_sid"] == first.sid
    assert stream["generation"] == 1
    assert stream["detached_at"]
    assert stream["reason"]
    (session,) = shown["model_sessions"]
    assert session["number"] == 1
    assert session["ended_at"], session
    in_order(phone.voice(1), range(35), 0, 0)
    in_order(phone.voice(2), range(45), 0, 0)
    assert s.brain.sessions[0].heard[TAG] == list(range(30))
    assert phone.lines() == []
    s.clean()


for kind in ("before", "never"):

    def make(kind: str):
        async def transcripts(s: Stage) -> None:
            s.brain.transcripts = kind
            phone = s.phone()
            await phone.dial_in()
            phone.speak(TAG, 500)
            await phone.hears(1, 30)
            phone.speak(TAG + 1, 500)
            await phone.hears(2, 30)
            await phone.streams[0].hang_up()
            shown = await s.ended()
            roles = [line["role"] for line in shown["transcript"] if line["text"]]
            assert roles == (["caller", "agent"] * 2 if kind == "before" else []), shown["transcript"]
            s.clean()

        transcripts.__name__ = f"transcripts_{kind}"
        return transcripts

    scene()(make(kind))


@scene()
async def reply_in_two_items(s: Stage) -> None:
    s.brain.on_reply_ = by_turns(says("One two.", 1000, split=400))
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(2, 30)
    in_order(phone.voice(1), range(20), 0, 0)
    in_order(phone.voice(2), range(30), 0, 0)
    s.clean()


# -- G1 ---------------------------------------------------------------------------------------------------


def breaks_mid_reply(name: str, breaking, slack: float = SLACK, known_after: float = 0.0) -> None:
    async def act(s: Stage) -> None:
        broke = []

        async def cut(session: Session) -> None:
            await session.say("I have found a slot for you on Monday.", 4000, upto=1200)
            await trio.sleep(0.3)
            broke.append(trio.current_time())
            await breaking(session)

        s.brain.on_reply_ = by_turns(
            says("Hello, clinic.", 600), says("Yes please.", 500), cut, says("on Monday then.", 1000)
        )
        phone = s.phone()
        await phone.dial_in()
        await phone.hears(1, 30)
        phone.speak(TAG, 500)
        await phone.hears(2, 25)
        phone.speak(TAG + 1, 500)
        await phone.until(lambda: broke, 5, "break")
        await phone.hears(4, 50)
        in_order(phone.voice(3), range(60), 0, 0)
        # Heard to its end; then at most 300 ms of silence before something is heard.
        end = max(at for at, who, _ in phone.heard() if who == 3) + 0.02
        since = max(end, broke[0] + known_after)
        following = min(
            [at for at, who, _ in phone.heard() if who == 4]
            + [b for b, _ in phone.lines() if b >= end - 0.05]
        )
        assert following - since <= 0.3 + slack + 2 * s.lag.since(since), (
            f"{following - since:.3f} s of silence; {phone.summary()} {phone.lines()} {broke} "
            f"{[(x.opened_at, x.live_at) for x in s.brain.sessions]}"
        )
        # The new session knows what was heard, and only that; nothing twice.
        last = s.brain.sessions[-1]
        assert last.number == 2, [x.told() for x in s.brain.sessions]
        told = last.told()
        print(name, told)
        roles = [role for role, _ in told]
        assert roles.count("user") == 2, told
        assert [text for role, text in told if role == "user"] == [
            f"caller turn {TAG}",
            f"caller turn {TAG + 1}",
        ]
        agent = [text for role, text in told if role == "assistant"]
        assert agent[0] == "Hello, clinic."
        assert agent[1] == "Yes please."
        assert len(last.requests) == 1
        await phone.streams[0].hang_up()
        shown = await s.ended()
        assert len(shown["model_sessions"]) == 2
        assert any(restart["actor"] == "model" for restart in shown["restarts"]), shown["restarts"]
        assert [line["role"] for line in shown["transcript"] if line["role"] == "caller"] == ["caller"] * 2
        assert len(phone.streams) == 1
        s.clean()

    act.__name__ = name
    scene(greeting="Hello, clinic.")(act)


async def _nothing(session: Session) -> None:
    await trio.sleep_forever()


async def _reset(session: Session) -> None:
    session.reset()


breaks_mid_reply("model_closes_1011", lambda session: session.close(1011, "oops"))
breaks_mid_reply("model_closes_1000", lambda session: session.close(1000, ""))
breaks_mid_reply(
    "model_closes_1001_expiry", lambda session: session.close(1001, "maximum duration of 60 minutes")
)
breaks_mid_reply("model_resets", _reset)
breaks_mid_reply("model_stalls_mid_reply", _nothing, known_after=2)


@scene()
async def model_never_answers(s: Stage) -> None:
    """A stall from the committed turn on: the comfort line, a new session, the answer."""

    async def reply(session: Session, turn: int) -> None:
        if session.number == 1:
            await trio.sleep_forever()
        await session.say("Here I am.", 600)

    s.brain.on_reply_ = reply
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.until(lambda: s.brain.sessions and s.brain.sessions[0].replies, 5, "turn")
    owed = trio.current_time()
    await phone.hears(1, 30)
    begins = [begin for begin, _ in phone.lines()]
    assert begins
    assert 0 <= begins[0] - owed - 2 <= 0.3 + SLACK + 2 * s.lag.since(owed), begins[0] - owed
    assert (await s.shown())["transcript"][0]["text"] == f"caller turn {TAG}"
    s.clean()


@scene()
async def model_freezes(s: Stage) -> None:
    """It neither speaks nor reads nor answers a close: that must not delay what the caller hears."""

    async def reply(session: Session, turn: int) -> None:
        if session.number == 1:
            session.frozen = True
            await trio.sleep_forever()
        await session.say("Here I am.", 600)

    s.brain.on_reply_ = reply
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.until(lambda: s.brain.sessions and s.brain.sessions[0].frozen, 5, "turn")
    owed = trio.current_time()
    await phone.hears(1, 30)
    first = min([begin for begin, _ in phone.lines()] + [at for at, _, _ in phone.heard()])
    assert first - owed - 2 <= 0.3 + SLACK + 2 * s.lag.since(owed), first - owed
    s.clean()


@scene()
async def model_refuses_the_first_upgrades(s: Stage) -> None:
    """After a loss: a refused reconnect, then success: the caller is not transferred."""
    s.brain.refuse = lambda attempt: 503 if attempt == 2 else None

    async def reply(session: Session, turn: int) -> None:
        if session.number == 1:
            await session.close(1011)
        else:
            await session.say("Back again.", 600)

    s.brain.on_reply_ = reply
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 30)
    assert s.brain.attempts == 3
    assert phone.dialled == []
    s.clean()


@scene(transfer_to="+15550100009")
async def model_fails_for_good_then_human(s: Stage) -> None:
    s.brain.refuse = lambda attempt: None if attempt == 1 else 503

    async def reply(session: Session, turn: int) -> None:
        if turn == 1:
            await session.say("Sure.", 500)
        else:
            await session.close(1011)

    s.brain.on_reply_ = reply
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 25)
    phone.speak(TAG + 1, 500)
    await phone.until(lambda: phone.dialled, 12, "dial")
    assert s.brain.attempts == 3
    assert phone.dialled[0]["to"] == "+15550100009"
    await phone.until(lambda: "whisper" in phone.dialled[0], 2, "whisper")
    assert "caller turn" in phone.dialled[0]["whisper"], phone.dialled
    shown = await s.ended()
    assert shown["outcome"] == "transferred", shown
    s.clean()


def permanent(name: str, refuse, on_open=None) -> None:
    async def act(s: Stage) -> None:
        s.brain.refuse = refuse
        s.brain.after_update = on_open
        phone = s.phone()
        begin = trio.current_time()
        await phone.dial_in()
        await phone.until(lambda: phone.lines(), 4, "an apology")
        await phone.until(phone.over.is_set, 10, "a clean end")
        assert s.brain.attempts == 1, s.brain.attempts
        shown = await s.ended()
        assert shown["outcome"] == "model_unavailable", shown
        assert phone.lines()[0][0] - begin < 1.5 + 3 * s.lag.since(begin)
        assert phone.ending in ("hangup", "document over") or s.rest.of(phone.sid)

    act.__name__ = name
    scene(greeting="Hello.")(act)


async def _no_quota(session: Session) -> None:
    await session.error("insufficient_quota", kind="insufficient_quota")
    await session.close(3000, "invalid_request_error.invalid_api_key")


permanent("bad_key_401", lambda attempt: 401)
permanent("bad_key_403", lambda attempt: 403)
permanent("bad_key_after_upgrade_3000", lambda attempt: None, _no_quota)


@scene()
async def model_gone_without_human(s: Stage) -> None:
    """Tried for ``model_give_up_seconds``, then an apology and an end."""
    s.brain.refuse = lambda attempt: None if attempt == 1 else 503

    async def reply(session: Session, turn: int) -> None:
        await session.close(1011)

    s.brain.on_reply_ = reply
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.until(lambda: s.brain.sessions and s.brain.sessions[0].closed.is_set(), 5, "loss")
    lost = trio.current_time()
    shown = await s.ended(seconds=20)
    assert shown["outcome"] == "model_unavailable"
    assert len(phone.lines()) >= 2, phone.lines()
    assert trio.current_time() - lost < 3 + 17
    assert s.brain.attempts >= 3


@scene()
async def failed_response_then_fine(s: Stage) -> None:
    async def failing(session: Session) -> None:
        await session.fail(None)

    s.brain.on_reply_ = by_turns(failing, says("Second try.", 600))
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 30)
    assert len(s.brain.sessions) == 1
    s.clean()


@scene()
async def poisoned_session_is_replaced(s: Stage) -> None:
    async def reply(session: Session, turn: int) -> None:
        if session.number == 1:
            await session.fail(None)
        else:
            await session.say("Fresh.", 600)

    s.brain.on_reply_ = reply
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 30)
    assert len(s.brain.sessions) == 2
    s.clean()


@scene()
async def model_lost_while_idle_is_inaudible(s: Stage) -> None:
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 30)
    await trio.sleep(0.3)
    await s.brain.sessions[0].close(1011)
    await phone.until(lambda: len(s.brain.sessions) == 2 and s.brain.sessions[1].live_at, 5, "a new session")
    await trio.sleep(1.0)
    assert phone.lines() == []
    assert s.brain.sessions[1].requests == []
    phone.speak(TAG + 1, 500)
    await phone.hears(2, 30)
    told = s.brain.sessions[1].told()
    assert told == [("user", f"caller turn {TAG}"), ("assistant", "Reply number 1 of the model.")], told
    s.clean()


@scene()
async def caller_speaks_while_the_model_is_away(s: Stage) -> None:
    s.brain.refuse = lambda attempt: 503 if attempt in (2, 3) else None
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 30)
    await s.brain.sessions[0].close(1011)
    await trio.sleep(0.1)
    phone.speak(TAG + 1, 600)
    await phone.hears(2, 30)
    session = s.brain.sessions[1]
    assert sorted(set(session.heard[TAG + 1])) == list(range(30)), session.heard
    assert len(session.heard[TAG + 1]) == 30, "heard twice by the model"
    shown = await s.shown()
    assert list(texts(shown, "caller")) == [f"caller turn {TAG}", f"caller turn {TAG + 1}"], shown
    s.clean()


@scene()
async def caller_speaks_as_the_model_breaks(s: Stage) -> None:
    """Half of the turn before the loss, half after it: one turn, whole."""
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 30)
    phone.speak(TAG + 1, 1400)
    await trio.sleep(0.7)
    s.brain.sessions[0].reset()
    await phone.hears(2, 30)
    session = s.brain.sessions[1]
    assert sorted(set(session.heard[TAG + 1])) == list(range(70)), len(session.heard[TAG + 1])
    s.clean()


@scene()
async def turn_waits_for_words_when_the_model_breaks(s: Stage) -> None:
    """The turn was committed, its transcription never came: the next session gets its sound."""
    s.brain.transcripts = "never"

    async def reply(session: Session, turn: int) -> None:
        if session.number == 1:
            await session.close(1011)
        else:
            await session.say("Got it.", 600)

    s.brain.on_reply_ = reply
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 800)
    await phone.hears(1, 30)
    session = s.brain.sessions[1]
    import base64

    from contract_audio import stamps

    got = set(session.heard.get(TAG, ()))
    for event in session.received:
        for part in event.get("item", {}).get("content", ()):
            if part["type"] == "input_audio":
                got |= {place for _, who, place in stamps(base64.b64decode(part["audio"])) if who == TAG}
    assert len(got) >= 38, sorted(got)
    s.clean()


# -- G2 ---------------------------------------------------------------------------------------------------


def stream_drops(name: str, drop, twice: int, lost: int) -> None:
    async def act(s: Stage) -> None:
        s.brain.on_reply_ = by_turns(says("A long story about Monday and Tuesday.", 4000), says("Then.", 600))
        phone = s.phone()
        first = await phone.dial_in()
        phone.speak(TAG, 500)
        await phone.hears(1, 75)
        await drop(s, phone, first)
        second = await phone.stream(2, 12)
        assert second.sid != first.sid
        await phone.hears(1, 200 - lost)
        await trio.sleep(0.4)
        in_order(phone.voice(1), range(200), twice, lost)
        assert len(s.brain.sessions) == 1, "the model session stays"
        phone.speak(TAG + 1, 500)
        await phone.hears(2, 30)
        await trio.sleep(0.25)
        await second.hang_up()
        shown = await s.ended()
        assert [part["generation"] for part in shown["streams"]] == [1, 2]
        assert shown["outcome"] == "caller_hung_up"
        said = [line for line in shown["transcript"] if line["role"] == "agent"]
        assert [line["text"] for line in said] == ["A long story about Monday and Tuesday.", "Then."], (
            f"{shown}"
        )
        s.clean()

    act.__name__ = name
    scene()(act)


async def _rst(s, phone, stream) -> None:
    stream.reset()


async def _fin(s, phone, stream) -> None:
    stream.fin()


async def _stop(s, phone, stream) -> None:
    await stream.stop()


async def _half_open(s, phone, stream) -> None:
    stream.half_open()
    await phone.until(lambda: stream.over.is_set() or s.rest.of(phone.sid), 10, "noticed")
    asked = s.rest.of(phone.sid)
    if asked and "Url" in asked[0]:
        stream.scope.cancel()


stream_drops("stream_reset", _rst, 10, 1)
stream_drops("stream_closed_without_frame", _fin, 10, 1)
stream_drops("stream_stopped_and_asked", _stop, 10, 1)
stream_drops("stream_half_open", _half_open, 50, 1)


@scene()
async def reset_and_nothing_more_is_carrier_lost(s: Stage) -> None:
    phone = s.phone()
    phone.follow = False
    first = await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 30)
    first.reset()
    gone = trio.current_time()
    shown = await s.ended()
    assert shown["outcome"] == "carrier_lost", shown
    assert trio.current_time() - gone < 6 + 6


@scene()
async def stream_returns_late_and_speech_waits(s: Stage) -> None:
    s.brain.on_reply_ = by_turns(says("A long story.", 3000))
    phone = s.phone()

    async def wait() -> None:
        await trio.sleep(2.0)

    phone.between = wait
    first = await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 50)
    first.reset()
    await phone.stream(2)
    await phone.hears(1, 149)
    in_order(phone.voice(1), range(150), 10, 1)
    s.clean()


@scene()
async def stream_and_model_drop_together(s: Stage) -> None:
    s.brain.on_reply_ = by_turns(
        says("A long story of many words indeed.", 3000, upto=2000), says("and so on.", 800)
    )
    phone = s.phone()
    first = await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 50)
    first.reset()
    s.brain.sessions[0].reset()
    await phone.stream(2)
    await phone.hears(2, 40)
    in_order(phone.voice(1), range(100), 10, 1)
    s.clean()


@scene()
async def repeated_voice_webhook_retires_the_older_stream(s: Stage) -> None:
    s.brain.on_reply_ = by_turns(says("A long story.", 3000))
    phone = s.phone()
    first = await phone.dial_in()
    phone.follow = False
    phone.speak(TAG, 500)
    await phone.hears(1, 50)
    root = await phone.document(s.callrt.base + "/twilio/voice")
    assert root.find("Connect/Stream") is not None
    assert not first.over.is_set(), "the older one stays until the newer attaches"
    s.nursery.start_soon(phone._run, root)
    await phone.stream(2)
    with trio.fail_after(3):
        await first.over.wait()
    await trio.sleep(0.1)  # the first document ends; the second goes on as usual
    phone.follow = True
    await phone.hears(1, 149)
    assert len(s.brain.sessions) == 1
    s.clean()


# -- G4 ---------------------------------------------------------------------------------------------------


@scene()
async def caller_interrupts(s: Stage) -> None:
    s.brain.on_reply_ = by_turns(
        says("One two three four five six seven eight nine ten.", 5000, split=3000), says("Sorry.", 600)
    )
    phone = s.phone()
    first = await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 60)
    phone.speak(TAG + 1, 500)
    await phone.until(lambda: first.clears, 5, "clear")
    session = s.brain.sessions[0]
    started = session.speech_started_at[1]
    assert first.clears[0] - started <= 0.02 + 0.03 + 2 * s.lag.since(started)
    await phone.hears(3, 30)
    heard = len(set(phone.voice(1))) * 20
    ((item, at),) = [(i, t) for i, t in session.truncated.items() if session.voice_of[i] == 1]
    assert heard - 600 <= at <= heard + 20, (at, heard)
    later = [i for i, voice in session.voice_of.items() if voice == 2]
    assert phone.voice(2) == []
    for item in later:
        assert item in session.deleted or session.truncated.get(item) == 0, (
            session.truncated,
            session.deleted,
        )
    await trio.sleep(0.3)
    await first.hang_up()
    shown = await s.ended()
    agent = [line for line in shown["transcript"] if line["role"] == "agent"]
    assert agent[0]["interrupted"] is True
    assert "ten" not in agent[0]["text"], agent
    assert agent[-1] == {**agent[-1], "text": "Sorry.", "interrupted": False}, f"{agent}"
    s.clean()


@scene()
async def caller_interrupts_a_reply_fully_sent(s: Stage) -> None:
    """No response is active any more, but it is still being played."""
    s.brain.on_reply_ = by_turns(says("One two three four five.", 3000), says("Sorry.", 600))
    phone = s.phone()
    first = await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 75)
    phone.speak(TAG + 1, 500)
    await phone.hears(2, 30)
    session = s.brain.sessions[0]
    heard = len(set(phone.voice(1))) * 20
    assert heard < 2900
    (at,) = session.truncated.values()
    assert heard - 600 <= at <= heard + 20, (at, heard)
    assert [e for e in session.received if e["type"] == "response.cancel"] == []
    assert first.max_ahead <= 2.0
    s.clean()


@scene()
async def interrupted_then_model_lost_is_not_told_more_than_heard(s: Stage) -> None:
    words = "One two three four five six seven eight nine ten."

    async def last(session: Session) -> None:
        await session.close(1011)

    s.brain.on_reply_ = by_turns(says(words, 5000), last, says("After.", 600))
    phone = s.phone()
    await phone.dial_in()
    phone.speak(TAG, 500)
    await phone.hears(1, 50)
    phone.speak(TAG + 1, 500)
    await phone.hears(2, 30)
    told = s.brain.sessions[1].told()
    agent = [text for role, text in told if role == "assistant"]
    assert len(agent) == 1, f"{told} {await s.shown()} {phone.summary()} {s.brain.sessions[0].truncated}"
    assert "seven" not in agent[0], told
    assert agent[0], told
    assert [text for role, text in told if role == "user"] == [f"caller turn {TAG}", f"caller turn {TAG + 1}"]
    s.clean()


# -- the suite ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return play(tmp_path_factory.mktemp("calls"), scene, RESILIENCE, at_once=8)


@pytest.mark.parametrize("name", scene.names)
def test_contract_call(name: str, results: Results) -> None:
    results.check(name)
