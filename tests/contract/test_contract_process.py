"""Processes that die, drain, freeze and follow each other, over real sockets."""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio
from contract_carrier import ACCOUNT, Phone, RestServer, sign
from contract_model import Brain, ModelServer, Session
from contract_serve import TOOLS, Callrt, Lag, Scenes, Stage, config_text, free_port

TAG = 42_000
RESILIENCE = {"carrier_return_seconds": 12, "model_stall_seconds": 3, "max_silence_seconds": 40}

READERS = 4
"""SQLite keeps a file open that was closed while the database was locked, for its next reader."""


class Theatre:
    """One configuration, any number of processes on one journal."""

    def __init__(self, folder: Path, models: ModelServer, rest: RestServer, nursery: trio.Nursery) -> None:
        self.folder, self.models, self.rest, self.nursery = folder, models, rest, nursery
        self.scenes = Scenes()
        self.started: list[Callrt] = []

    async def serve(self, port: int | None = None, server: str = "drain_seconds = 30", **agent) -> Callrt:
        if not self.scenes.all:
            self.scenes(tools=["contract_tools:slow_book"], **agent)(play_nothing)
            self.models.brains["play_nothing"] = Brain()
            (self.folder / "contract_tools.py").write_text(TOOLS.read_text())
        port, admin = port or free_port(), free_port()
        text = config_text(self.scenes, port, admin, self.models.port, self.rest.port, RESILIENCE, server)
        callrt = Callrt(self.folder, text, port, admin)
        self.started.append(callrt)
        await trio.to_thread.run_sync(callrt.start)
        return callrt

    @property
    def brain(self) -> Brain:
        return self.models.brains["play_nothing"]

    def stage(self, callrt: Callrt) -> Stage:
        return Stage(self.scenes.all[0], callrt, self.models, self.rest, self.nursery)


async def play_nothing(s: Stage) -> None:
    """The scene's name stands for the agent."""


def in_theatre(folder: Path, act: Callable[[Theatre], Awaitable[None]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            models, rest = ModelServer(), RestServer()
            await nursery.start(models.run)
            await nursery.start(rest.run)
            Stage.lag = Lag()
            nursery.start_soon(Stage.lag.watch)
            theatre = Theatre(folder, models, rest, nursery)
            try:
                with trio.fail_after(70):
                    await act(theatre)
            finally:
                for callrt in theatre.started:
                    callrt.stop()
            nursery.cancel_scope.cancel()

    trio.run(main)


async def in_thread(step, *arguments):
    return await trio.to_thread.run_sync(partial(step, *arguments))


async def status_of(callrt: Callrt, path: str, admin: bool = False) -> tuple[int, str]:
    port = callrt.admin if admin else callrt.port
    response = await in_thread(lambda: httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False))
    return response.status_code, response.text


async def exits(callrt: Callrt, seconds: float) -> int:
    assert callrt.process is not None
    with trio.fail_after(seconds):
        while callrt.process.poll() is None:
            await trio.sleep(0.02)
    return callrt.process.returncode


# -- G3 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("while_", ["speaking", "listening", "tool"])
def test_contract_kill_and_take_up(tmp_path: Path, while_: str) -> None:
    async def act(t: Theatre) -> None:
        first = await t.serve(greeting="Hello, clinic.")

        async def reply(session: Session, turn: int) -> None:
            if session.number == 1 and turn == 1:
                await session.say("Hello, clinic.", 600)
            elif session.number == 1 and while_ == "tool":
                await session.call(("slow_book", '{"slot": "KILLED"}'))
            elif session.number == 1:
                await session.say("I have found a slot for you on Monday at ten.", 4000)
            else:
                await session.say("As I was saying.", 800)

        t.brain.on_reply_ = reply
        s = t.stage(first)
        phone = s.phone()
        second: list[Callrt] = []

        async def between() -> None:
            if not second:
                second.append(await t.serve(port=first.port))

        phone.between = between
        await phone.dial_in()
        await phone.hears(1, 30)
        phone.speak(TAG, 500)
        if while_ == "speaking":
            await phone.hears(2, 60)
        elif while_ == "listening":
            await phone.hears(2, 195)
            await trio.sleep(0.8)
        else:
            await phone.until(lambda: (t.folder / "slow_booked.txt").exists(), 8, "the tool")
            await trio.sleep(0.5)
        first.kill()
        await phone.stream(2, 25)
        await phone.until(lambda: len(t.brain.sessions) == 2 and t.brain.sessions[1].live_at, 8, "session")
        await trio.sleep(0.8)
        session = t.brain.sessions[1]
        told = session.told()
        assert told[0] == ("assistant", "Hello, clinic."), told
        assert ("user", f"caller turn {TAG}") in told, told
        if while_ == "listening":
            await trio.sleep(0.5)
            assert ("assistant", "I have found a slot for you on Monday at ten.") in told, told
            assert session.requests == [], "nothing is owed"
            phone.speak(TAG + 1, 500)
            await phone.hears(3, 30)
        elif while_ == "speaking":
            await phone.hears(3, 30)
            agent = [text for role, text in told if role == "assistant"]
            assert len(agent) == 2, told
            assert "Monday at ten" not in agent[1], told
        else:
            voice = max(t.brain.said)
            await phone.until(lambda: len(t.brain.said) >= 2, 8, "a reply")
            await phone.hears(max(t.brain.said), 30)
            assert (t.folder / "slow_booked.txt").read_text().count("KILLED") == 1
            assert any("not known" in output for _, output in session.outputs), (told, voice)
        await trio.sleep(0.5)
        phone.between = None
        await phone.streams[-1].hang_up()
        s.callrt = second[0]
        shown = await s.ended()
        assert shown["outcome"] == "caller_hung_up"
        assert len(shown["streams"]) == 2
        assert [part["number"] for part in shown["model_sessions"]] == [1, 2]
        if while_ == "tool":
            assert [tool["status"] for tool in shown["tools"]] == ["unknown"]
        callers = [line["text"] for line in shown["transcript"] if line["role"] == "caller"]
        assert callers[0] == f"caller turn {TAG}"
        assert len(callers) == len(set(callers))
        s.clean()

    in_theatre(tmp_path, act)


def test_contract_a_frozen_process_loses_the_call(tmp_path: Path) -> None:
    async def act(t: Theatre) -> None:
        first = await t.serve()
        t.brain.on_reply_ = None

        async def reply(session: Session, turn: int) -> None:
            await session.say("A long, long story.", 6000)

        t.brain.on_reply_ = reply
        s = t.stage(first)
        phone = s.phone()
        one = await phone.dial_in()
        phone.speak(TAG, 500)
        await phone.hears(1, 50)
        first.kill(signal.SIGSTOP)
        second = await t.serve()
        phone.follow = False
        # The carrier asks, and is answered by the other process.
        answered = Phone(second.base, phone.sid, phone.called, t.nursery)
        root = await answered.document(second.base + "/twilio/voice")
        t.nursery.start_soon(answered._run, root)
        await answered.stream(1)
        await trio.sleep(1.5)
        before = len(one.received_at)
        entries = len((await s.shown())["streams"])
        first.kill(signal.SIGCONT)
        await trio.sleep(2)
        assert len(one.received_at) - before == 0, "the frozen process spoke again"
        assert one.over.is_set()
        assert entries == 2
        assert answered.heard(), "the call goes on"
        assert (await in_thread(first.metrics))["callrt_calls_live"] == 0
        assert (await in_thread(second.metrics))["callrt_calls_live"] == 1

    in_theatre(tmp_path, act)


# -- G11 ------------------------------------------------------------------------------------------------------


def test_contract_drain(tmp_path: Path) -> None:
    async def act(t: Theatre) -> None:
        callrt = await t.serve(server="drain_seconds = 25")
        s = t.stage(callrt)
        phone, late = s.phone(), s.phone()
        first = await phone.dial_in()
        phone.speak(TAG, 500)
        await phone.hears(1, 20)
        callrt.kill(signal.SIGTERM)
        await trio.sleep(0.3)
        for admin in (False, True):
            code, text = await status_of(callrt, "/readyz", admin)
            assert code == 503
            assert "drain" in text
            assert (await status_of(callrt, "/healthz", admin))[0] == 200
        root = await late.document(callrt.base + "/twilio/voice")
        assert root.find("Connect") is None
        assert "".join(root.find("Say").itertext()).strip()
        assert root.find("Hangup") is not None
        # The live call goes on, even over a lost stream.
        phone.speak(TAG + 1, 500)
        await phone.hears(2, 30)
        first.reset()
        second = await phone.stream(2)
        phone.speak(TAG + 2, 500)
        await phone.hears(3, 30)
        await second.hang_up()
        began = time.monotonic()
        assert await exits(callrt, 12) == 0
        assert time.monotonic() - began < 6
        shown = await s.shown()
        assert shown["outcome"] == "caller_hung_up"

    in_theatre(tmp_path, act)


def test_contract_drain_ends_politely_and_at_once(tmp_path: Path) -> None:
    async def act(t: Theatre) -> None:
        callrt = await t.serve(server="drain_seconds = 1.0")
        s = t.stage(callrt)
        phone = s.phone()
        await phone.dial_in()
        phone.speak(TAG, 500)
        await phone.hears(1, 20)
        callrt.kill(signal.SIGTERM)
        assert await exits(callrt, 15) == 0
        shown = await s.shown()
        assert phone.lines(), f"no polite end: {shown} {phone.summary()} {callrt.log.read_text()}"
        assert shown["state"] == "ended"
        idle = await t.serve()
        idle.kill(signal.SIGTERM)
        began = time.monotonic()
        assert await exits(idle, 5) == 0
        assert time.monotonic() - began < 3
        busy = await t.serve()
        s.callrt = busy
        other = s.phone()
        other.base, other.follow = busy.base, False
        await other.dial_in()
        busy.kill(signal.SIGTERM)
        await trio.sleep(0.5)
        busy.kill(signal.SIGTERM)
        began = time.monotonic()
        await exits(busy, 5)
        assert time.monotonic() - began < 1.5

    in_theatre(tmp_path, act)


# -- G6 -------------------------------------------------------------------------------------------------------


def test_contract_many_calls_leave_nothing(tmp_path: Path) -> None:
    """200 in sequence (twenty lanes of ten) and 100 at once: files, calls and memory return to where they were."""

    async def act(t: Theatre) -> None:
        callrt = await t.serve()
        t.brain.forgetful = True

        async def reply(session: Session, turn: int) -> None:
            await session.say("Yes.", 200)

        t.brain.on_reply_ = reply
        number = iter(range(100_000))

        async def one(hold: trio.Event | None = None) -> None:
            phone = Phone(callrt.base, f"CA{next(number):032x}", "+1", t.nursery)
            first = await phone.dial_in()
            if hold is not None:
                await hold.wait()
            if hold is None:
                phone.speak(TAG, 200)
                await phone.until(phone.heard, 20, "an answer")
            await first.hang_up()
            await phone.over.wait()

        async def settled() -> None:
            with trio.fail_after(20):
                while (await in_thread(callrt.metrics))["callrt_calls_live"] or t.models.open_sockets:
                    await trio.sleep(0.1)
            await trio.sleep(0.3)

        await one()
        await settled()
        await in_thread(callrt.metrics)
        base_links = callrt.links()
        base_files, base_memory = len(callrt.files()), callrt.memory()

        async def lane() -> None:
            for _ in range(10):
                await one()

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(lane)
        await settled()
        after = len(callrt.files()), callrt.memory()
        assert after[0] - base_files <= READERS, set(callrt.links()) - set(base_links)
        assert after[1] - base_memory < 40, (base_memory, after)
        hold = trio.Event()
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(one, hold)
            with trio.fail_after(20):
                while (await in_thread(callrt.metrics))["callrt_calls_live"] < 100:
                    await trio.sleep(0.1)
            hold.set()
        await settled()
        last = len(callrt.files()), callrt.memory()
        print("files", base_files, after[0], last[0], "memory", base_memory, after[1], last[1])
        assert last[0] - base_files <= READERS, set(callrt.links()) - set(base_links)
        assert last[1] - base_memory < 60
        code, text = await status_of(callrt, "/calls", True)
        assert code == 200
        assert "CA0000" not in text

    in_theatre(tmp_path, act)


# -- HTTP -------------------------------------------------------------------------------------------------------


def test_contract_http(tmp_path: Path) -> None:
    async def act(t: Theatre) -> None:
        callrt = await t.serve()
        s = t.stage(callrt)
        for path in ("/healthz", "/readyz"):
            for admin in (False, True):
                assert (await status_of(callrt, path, admin))[0] == 200
        assert (await status_of(callrt, "/metrics", True))[0] == 200
        assert (await status_of(callrt, "/metrics"))[0] == 404
        assert (await status_of(callrt, "/calls"))[0] == 404
        assert (await status_of(callrt, "/twilio/voice", True))[0] == 404
        assert (await status_of(callrt, "/twilio/voice"))[0] == 405
        url = callrt.base + "/twilio/voice"
        form = {
            "CallSid": "CA1",
            "AccountSid": ACCOUNT,
            "From": "+15550170001",
            "To": "+1",
            "CallStatus": "ringing",
        }
        async with httpx.AsyncClient(trust_env=False) as client:

            async def post(data=form, signature: str | None = None, **more) -> int:
                headers = {"X-Twilio-Signature": signature} if signature is not None else {}
                return (await client.post(url, data=data, headers=headers, **more)).status_code

            assert await post() == 403
            assert await post(signature="") == 403
            assert await post(signature="nonsense") == 403
            assert await post(signature=sign(url, form, "0" * 32)) == 403
            assert await post(signature=sign(url, {**form, "To": "+2"})) == 403
            big = {**form, "X": "y" * 70_000}
            assert await post(big, sign(url, big)) == 413
            for name in ("CallSid", "From", "To"):
                less = {k: v for k, v in form.items() if k != name}
                assert await post(less, sign(url, less)) == 400, name
            assert (await in_thread(callrt.metrics))["callrt_calls_live"] == 0
        done = callrt.callrt("calls", "show", "CA1", "--config", str(callrt.file))
        assert done.returncode == 1, "a refused request touches nothing"

        # The socket.
        phone = s.phone()
        root = await phone.document(url)
        stream = root.find("Connect/Stream").get("url")

        async def upgrade(address: str, signed: str | None) -> int:
            headers = {
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
                "Sec-WebSocket-Version": "13",
            }
            if signed is not None:
                headers["X-Twilio-Signature"] = sign(signed)
            async with httpx.AsyncClient(trust_env=False) as one:
                return (await one.get("http" + address.removeprefix("ws"), headers=headers)).status_code

        plain = "http" + stream.removeprefix("ws")
        assert await upgrade(stream, None) == 403
        assert await upgrade(stream, plain) == 403, "signed as http"
        assert await upgrade(stream, "https" + stream.removeprefix("ws")) == 403
        wrong = stream[:-4] + ("AAAA" if stream[-4:] != "AAAA" else "BBBB")
        assert await upgrade(wrong, wrong) == 403
        bare = stream.rsplit("/", 1)[0] + "/"
        assert await upgrade(bare, bare) in (403, 404)
        # A token with another call's CallSid is closed at start, and that other call lives.
        live = s.phone()
        first = await live.dial_in()
        from contract_carrier import MediaStream

        thief = MediaStream(phone, stream, {})
        original = thief.start
        thief.start = lambda: original(live.sid)
        with trio.fail_after(5):
            await thief.run()
        assert not first.over.is_set()
        live.speak(TAG, 500)
        await live.hears(1, 20)
        # Redeemed only at start: the honest call can still use its token, once.
        phone.streams.clear()
        t.nursery.start_soon(phone._run, root)
        await phone.stream(1, 5)
        assert await upgrade(stream, stream) == 403, "used"
        s.clean()

    in_theatre(tmp_path, act)
