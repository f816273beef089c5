"""Real processes to be killed: ``callrt serve`` on its own port and journal, a carrier and a model per call.

One process carries several calls of different ages, so that one kill -9 strikes each of them at another
instant of its life. Everything is on loopback sockets; nothing here knows the inside of the service but its
journal, read afterwards.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from callrt.journal import SqliteStore
from callrt.protocol.call import fold
from callrt.protocol.call_state import CallState
from callrt.testing.carrier import Carrier, Habits, PhoneCall
from callrt.testing.carrier_caller import Line
from callrt.testing.carrier_net import open_carrier, serve_rest
from callrt.testing.carrier_tape import is_audible
from callrt.testing.model_brain import Answer, Calling, ScriptBrain, Turn, words_of
from callrt.testing.model_items import Item
from callrt.testing.model_server import EmulatedModel
from callrt.testing.ports import free_ports
from callrt.testing.speech import beeps

GREETING = "Hello, this is the clinic."
BOOK = "Book me on Tuesday please."
BOOKED = "You are booked for Tuesday at nine."
SEND = "And send me the address."
SENT = "It is on its way to you now."
WHOLE = words_of(f"{GREETING} {BOOKED} {SENT}")

TOKEN = "5f0d1c2b3a495867768594a3b2c1d0ef"
ACCOUNT = "AC" + "0" * 31 + "1"
START_SECONDS = 60.0
"""A cold interpreter on a loaded machine."""
PATIENCE_SECONDS = 5.0
"""Of silence on the line, before the caller asks again."""
CALL_SECONDS_MAX = 100.0
OUTCOME_SECONDS = 30.0
"""A call of which nobody hears any more is given its end by the sweeper."""
LAG_MAX = 0.3
"""Seconds. Kept from running for longer, callers talk to a service that is far behind them, and what they heard says
nothing about it."""
FRAME = 160

TOOLS = '''\
"""The clinic's tools. Each effect is one line in a file that outlives the process."""

import os
import time
from pathlib import Path

from callrt import tool
from callrt.agents import CallContext

EFFECTS = Path(__file__).with_name("effects.txt")


def _effect(name: str, call: CallContext) -> None:
    time.sleep(0.25)
    file = os.open(EFFECTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{call.call_sid} {name} {call.idempotency_key}\\n".encode())
    os.close(file)
    time.sleep(0.25)


def was_booked(key: str) -> str:
    done = EFFECTS.read_text().split() if EFFECTS.exists() else []
    if key not in done:
        raise LookupError(key)
    return "booked"


@tool(side_effects=True, resolve=was_booked)
def book(day: str, call: CallContext) -> str:
    """Book an appointment."""
    _effect("book", call)
    return "booked"


@tool(side_effects=True)
def send_address(call: CallContext) -> str:
    """Send the caller the address."""
    _effect("send_address", call)
    return "sent"
'''

PASS_SOCKETS = """\
import os, sys
for number, given in enumerate(sys.argv[1:3], 3):
    os.dup2(int(given), number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="public:admin")
os.execv(sys.argv[3], sys.argv[3:])
"""

CONFIG = """\
[server]
port = {port}
admin_port = {admin_port}
public_url = "http://127.0.0.1:{port}"
drain_seconds = {drain_seconds}
[carriers.twilio]
account_sid = "{account}"
auth_token = "{token}"
api_url = "http://127.0.0.1:{rest_port}"
"""

AGENT = """\
[models.m{n}]
url = "ws://127.0.0.1:{model_port}/v1/realtime"
api_key = "sk-crash"
model = "gpt-realtime-2.1"
[agents.a{n}]
model = "m{n}"
instructions = "You answer the phone for a clinic."
greeting = "{greeting}"
tools = ["crash_tools:book", "crash_tools:send_address"]
"""


class Clinic(ScriptBrain):
    """Calls a tool again when it is told that it may."""

    def answer(
        self, history: Sequence[dict[str, Any]], instructions: str, speak_exactly: str | None
    ) -> Answer:
        last = history[-1] if history else {}
        if last.get("type") == "function_call_output" and "may be called again" in last["output"]:
            calls = {item["call_id"]: item for item in history if item["type"] == "function_call"}
            call = calls[last["call_id"]]
            return Answer((Calling(call["name"], call["arguments"]),))
        return super().answer(history, instructions, speak_exactly)


def brain() -> ScriptBrain:
    return Clinic(
        [
            Turn(BOOK, beeps(BOOK, 7), BOOKED, tool=Calling("book", '{"day": "Tuesday"}')),
            Turn(SEND, beeps(SEND, 7), SENT, tool=Calling("send_address")),
        ],
        lines=[GREETING],
    )


# -- the process ----------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Server:
    """``callrt serve`` as a process; several may be up at a time, on one port and journal."""

    folder: Path
    port: int
    shared: tuple[int, int] | None = None
    """Descriptors of the listening sockets, public and admin, that a process manager would pass."""
    arguments: tuple[str, ...] = ()
    """More of the command line."""
    processes: list[trio.Process] = attrs.field(factory=list)
    serving: list[trio.Process] = attrs.field(factory=list)
    """Those that have said that they listen."""

    async def start(self, *, config: str = "callrt.toml") -> trio.Process:
        """Returns when it listens."""
        command = [sys.executable, "-m", "callrt", "serve", "--config", str(self.folder / config)]
        command += self.arguments
        more: dict[str, Any] = {}
        if self.shared is not None:
            # As systemd does it: descriptors from 3 on, for the process of this id.
            command = [sys.executable, "-c", PASS_SOCKETS, *map(str, self.shared), *command]
            more = {"pass_fds": self.shared}
        with (self.folder / "log.txt").open("ab") as log:
            process = await trio.lowlevel.open_process(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, **more
            )
        self.processes.append(process)
        assert process.stdout is not None
        with trio.fail_after(START_SECONDS):
            line = await process.stdout.receive_some()
        assert line.startswith(b"listening on "), self.log()
        self.serving.append(process)
        return process

    async def kill(self, process: trio.Process) -> None:
        """kill -9, at this instant."""
        process.send_signal(signal.SIGKILL)
        await process.wait()

    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    async def end(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGKILL)
            await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()


def kept_waiting(pid: int) -> float:
    """Seconds that this process's main thread was ready to run and had no core, since it began; 0 where the kernel
    does not count them."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


@attrs.define(eq=False)
class Rig:
    server: Server
    carrier: Carrier
    models: list[EmulatedModel]
    admin_port: int
    lag: float = 0.0
    """The longest that this process was kept from running, or within a second one of the service's: callers' clocks
    stood still, or the service was behind their ears."""
    visits: dict[int, Visit] = attrs.field(factory=dict)
    """By the number of their agent."""

    def place(
        self, number: int, *, attempts: int = 200, asks: tuple[tuple[str, str], ...] | None = None
    ) -> Visit:
        """The caller of agent ``number``. A carrier retries until somebody answers."""
        visit = Visit(self.models[number]) if asks is None else Visit(self.models[number], asks)
        visit.call = self.carrier.place(
            visit.talk,
            to_number=f"+1555020{number:04d}",
            habits=Habits(webhook_attempts=attempts, webhook_retry_seconds=0.1, webhook_seconds=40.0),
        )
        self.visits[number] = visit
        return visit

    async def watch_lag(self) -> None:
        while True:
            due = trio.current_time() + 0.02
            await trio.sleep_until(due)
            self.lag = max(self.lag, trio.current_time() - due)

    async def watch_service(self) -> None:
        before: dict[int, float] = {}
        while True:
            now = {
                each.pid: kept_waiting(each.pid) for each in self.server.serving if each.returncode is None
            }
            self.lag = max([self.lag, *(now[pid] - before[pid] for pid in now if pid in before)])
            before = now
            await trio.sleep(1.0)

    @property
    def starved(self) -> bool:
        """The machine had no time, or its disk took no write for two seconds."""
        return self.lag > LAG_MAX or "JournalDown" in self.server.log()

    async def wait_outcomes(self) -> None:
        """Until the journal has an end for each call, or long enough for it."""
        with trio.move_on_after(OUTCOME_SECONDS):
            while self.store.list_calls(limit=1000, live_only=True):
                await trio.sleep(0.1)

    # -- what is left ---------------------------------------------------------------------------------------

    @property
    def store(self) -> SqliteStore:
        return SqliteStore(self.server.folder / "callrt.db")

    def state(self, call_sid: str) -> CallState:
        reading = self.store.read_call(call_sid)
        assert reading.corrupt == ()
        numbers = [entry.number for entry in reading.entries]
        assert numbers == list(range(1, len(numbers) + 1)), "the journal has no hole"
        return fold(reading.entries)

    def effects(self, call_sid: str) -> list[tuple[str, str]]:
        """(name, idempotency key) of each run of a tool for this call."""
        file = self.server.folder / "effects.txt"
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return [(name, key) for sid, name, key in lines if sid == call_sid]


@asynccontextmanager
async def open_rig(
    folder: Path, calls: int, *, drain_seconds: float = 10, seed: int = 0
) -> AsyncIterator[Rig]:
    """Carrier, models and configuration for so many calls; no process yet. Kills what is left at the end."""
    port, admin_port, rest_port = free_ports(3)
    models = [EmulatedModel(brain(), seed=number) for number in range(calls)]
    async with (
        trio.open_nursery() as nursery,
        open_carrier(
            f"http://127.0.0.1:{port}/twilio/voice", account_sid=ACCOUNT, auth_token=TOKEN, seed=seed
        ) as carrier,
    ):
        await nursery.start(serve_rest, carrier, rest_port)
        text = CONFIG.format(
            port=port,
            admin_port=admin_port,
            rest_port=rest_port,
            account=ACCOUNT,
            token=TOKEN,
            drain_seconds=drain_seconds,
        )
        for n, model in enumerate(models):
            text += AGENT.format(n=n, model_port=await nursery.start(model.listen), greeting=GREETING)
        text += "[routes]\n" + "".join(f'"+1555020{n:04d}" = "a{n}"\n' for n in range(calls))
        (folder / "callrt.toml").write_text(text)
        (folder / "crash_tools.py").write_text(TOOLS)
        rig = Rig(Server(folder, port), carrier, models, admin_port)
        nursery.start_soon(rig.watch_lag)
        nursery.start_soon(rig.watch_service)
        try:
            yield rig
        finally:
            with trio.CancelScope(shield=True):
                await rig.server.end()
            nursery.cancel_scope.cancel()


# -- the caller ------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Visit:
    """One caller: asks for two things, asks again where no answer comes, and remembers what was heard."""

    model: EmulatedModel
    asks: tuple[tuple[str, str], ...] = ((BOOK, BOOKED), (SEND, SENT))
    call: PhoneCall = attrs.field(init=False)
    missed: list[str] = attrs.field(factory=list)
    asked: int = 0
    _frames: int = 0
    _items: list[Item] = attrs.field(factory=list)
    _learned: list[int] = attrs.field(factory=list)
    _places: dict[bytes, tuple[int, int]] = attrs.field(factory=dict)
    _heard: dict[int, int] = attrs.field(factory=dict)
    """Item to the last frame heard of it, in the order of hearing."""

    async def talk(self, line: Line) -> None:
        await self._until_heard(line, GREETING, None)
        for text, answer in self.asks:
            await line.wait(0.3)
            await self._ask(line, text)
            await self._until_heard(line, answer, text)
        await line.wait(1.5)  # on a busy machine the service may be that far behind the ear
        line.hang_up()

    async def _ask(self, line: Line, text: str) -> None:
        self.asked += 1
        await line.say(beeps(text, 7))

    async def _until_heard(self, line: Line, answer: str, question: str | None) -> None:
        for _ in range(6):
            quiet_since = trio.current_time()
            while trio.current_time() - quiet_since < PATIENCE_SECONDS:
                await line.wait(0.05)
                quiet_since = max(quiet_since, line.agent_ended_at)
                if self.has_heard(answer):
                    return
                if self.call.stream is None:
                    quiet_since = trio.current_time()  # the line is dead: nobody to repeat it to
            if question is not None:
                await self._ask(line, question)
        self.missed.append(answer)

    # -- what was heard -----------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        for session in self.model.sessions:
            for item in session.spoken:
                if not any(item is known for known in self._items):
                    self._items.append(item)
                    self._learned.append(0)
        for number, item in enumerate(self._items):
            at = self._learned[number]
            while at + FRAME <= len(item.audio):
                frame = bytes(item.audio[at : at + FRAME])
                if is_audible(frame):
                    self._places[frame] = (number, at // FRAME)
                at += FRAME
            self._learned[number] = at
        heard = self.call.tape.heard
        for each in heard[self._frames :]:
            place = self._places.get(each.frame)
            if each.source == "stream" and place is not None:
                number, frame = place
                self._heard[number] = max(self._heard.get(number, 0), frame + 1)
        self._frames = len(heard)

    def words(self) -> list[str]:
        """Every word that was heard by more than half, in order."""
        self.catch_up()
        text = " ".join(
            self._items[number].words_until(frames * 20) for number, frames in self._heard.items()
        )
        return words_of(text)

    def has_heard(self, line: str) -> bool:
        """Its end, after all of it."""
        return lacking(words_of(line), self.words()) == []


def lacking(wanted: Sequence[str], words: Sequence[str]) -> list[str]:
    """Words of ``wanted`` that do not come in ``words`` in their order."""
    rest = list(words)
    out = []
    for word in wanted:
        if word in rest:
            del rest[: rest.index(word) + 1]
        else:
            out.append(word)
    return out


Instants = Callable[[float], Sequence[float]]


async def run_calls(rig: Rig, ages: Sequence[float], strike: Callable[[], object]) -> None:
    """Place a call per age, so that all have theirs when ``strike`` (an async function) is called; return when
    all are over."""
    oldest = max(ages)
    began = trio.current_time()

    async def one(number: int, age: float) -> None:
        await trio.sleep_until(began + oldest - age)
        await rig.place(number).call.run()

    with trio.fail_after(CALL_SECONDS_MAX):
        async with trio.open_nursery() as nursery:
            for number, age in enumerate(ages):
                nursery.start_soon(one, number, age)
            await trio.sleep_until(began + oldest)
            await strike()  # type: ignore[misc]
    await rig.wait_outcomes()


def environment_number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))
