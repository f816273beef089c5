"""The tool desk in a supervised tree, in virtual time: whatever a tool does, one output, and the call goes on."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from callrt.actors.tool_runner import InlineRunner, ThreadRunner, ToolRunner
from callrt.actors.tools import FILLER_AFTER_SECONDS, ToolDesk
from callrt.agents import CallContext, Tool, ToolFailed, tool
from callrt.policy.facts import ToolRan
from callrt.policy.settings import Resilience
from callrt.protocol.call_state import ToolUse
from callrt.protocol.records import AnyRecord, ToolFinished, ToolIntended
from callrt.protocol.tools import (
    END_CALL,
    OUTPUT_BYTES_MAX,
    TRANSFER_TO_HUMAN,
    CallFacts,
    Limits,
    idempotency_key,
)
from callrt.supervision import ChildSpec, Supervisor
from callrt.supervision.determinism import simulate

FACTS = CallFacts("CA1", "+15550100001", "front-desk")


class JournalDown(Exception):
    pass


class FakeLog:
    """A journal: takes ``delay`` to commit, or cannot."""

    def __init__(self) -> None:
        self.records: list[AnyRecord] = []
        self.committed: list[AnyRecord] = []
        self.down = False
        self.delay = 0.01

    def write(self, record: AnyRecord) -> bool:
        self.records.append(record)
        return True

    async def commit(self, record: AnyRecord) -> None:
        await trio.sleep(self.delay)
        if self.down:
            raise JournalDown
        self.records.append(record)
        self.committed.append(record)

    def intents(self) -> list[str]:
        return [r.call_id for r in self.records if isinstance(r, ToolIntended)]

    def ends(self) -> list[tuple[str, str]]:
        return [(r.call_id, r.status) for r in self.records if isinstance(r, ToolFinished)]


@attrs.define
class Room:
    """A desk and all that it says."""

    desk: ToolDesk
    log: FakeLog
    outputs: list[tuple[str, str]]
    fillers: list[str]
    wishes: list[tuple[str, str]]
    facts: list[ToolRan]
    supervisor: Supervisor

    async def settled(self) -> None:
        with trio.fail_after(1000):
            await self.desk.wait_settled()

    def output(self, call_id: str) -> str:
        (found,) = [output for asked, output in self.outputs if asked == call_id]
        return found

    def error(self, call_id: str) -> str:
        return str(json.loads(self.output(call_id))["error"])


def make(tools: list[Tool[..., Any]], runner: ToolRunner | None = None, limits: Limits | None = None) -> Room:
    log, outputs, fillers, wishes, facts = FakeLog(), [], [], [], []  # type: ignore[var-annotated]

    def on_builtin(name: str, reason: str) -> str:
        wishes.append((name, reason))
        return "being connected"

    desk = ToolDesk(
        {made.name: made for made in tools},
        call=FACTS,
        journal=log,
        settings=Resilience(),
        on_output=lambda call_id, output: outputs.append((call_id, output)),
        on_filler=fillers.append,
        builtins=(TRANSFER_TO_HUMAN, END_CALL),
        on_builtin=on_builtin,
        facts=facts.append,
        runner=runner or InlineRunner(),
        limits=limits,
    )
    supervisor = Supervisor([ChildSpec("tools", desk.run)], max_restarts=10)
    return Room(desk, log, outputs, fillers, wishes, facts, supervisor)


@asynccontextmanager
async def open_room(*tools: Tool[..., Any], runner: ToolRunner | None = None) -> AsyncIterator[Room]:
    room = make(list(tools), runner)
    async with trio.open_nursery() as nursery:
        await nursery.start(room.supervisor.run)
        yield room
        room.supervisor.stop()


def effect(done: list[str], seconds: float = 1.0, **options: Any) -> Tool[..., Any]:
    @tool(side_effects=True, name="book", **options)
    async def book(day: str, ctx: CallContext) -> str:
        done.append(ctx.idempotency_key)
        await trio.sleep(seconds)
        return f"booked {day}"

    return book


@tool
async def look(day: str = "monday") -> str:
    await trio.sleep(1)
    return f"{day} is free"


BOOK = '{"day": "monday"}'
BOOK_KEY = idempotency_key("CA1", "book", '{"day":"monday"}', 1)


# -- the plain way ----------------------------------------------------------------------------------------


async def test_request_gets_its_output(autojump_clock: trio.testing.MockClock) -> None:
    async with open_room(look) as room:
        room.desk.request("c1", "look", '{"day": "tuesday"}', 1)
        assert room.outputs == []
        await room.settled()
        assert room.outputs == [("c1", "tuesday is free")]
        assert room.facts == [ToolRan("look", "ok", pytest.approx(1.0))]
        assert room.log.ends() == [("c1", "ok")]


async def test_side_effect_is_intended_on_disk_before_it_runs(autojump_clock: trio.testing.MockClock) -> None:
    done: list[str] = []
    async with open_room(effect(done)) as room:
        room.log.delay = 5
        room.desk.request("c1", "book", BOOK, 1)
        await trio.sleep(4.9)
        assert done == []
        await trio.sleep(1)
        assert done == [BOOK_KEY]
        room.log.delay = 0.1
        await room.settled()
        assert [type(record) for record in room.log.committed] == [ToolIntended, ToolFinished]
        assert room.log.committed[0].side_effects  # type: ignore[union-attr]
        assert room.outputs == [("c1", "booked monday")]


async def test_runs_do_not_wait_for_each_other(autojump_clock: trio.testing.MockClock) -> None:
    async with open_room(look) as room:
        began = trio.current_time()
        for n in range(10):
            room.desk.request(f"c{n}", "look", json.dumps({"day": str(n)}), 1)
        await room.settled()
        assert trio.current_time() - began < 1.2
        assert len(room.outputs) == 10


async def test_specs_are_the_tools_then_the_built_in_ones() -> None:
    room = make([look])
    assert [spec.name for spec in room.desk.specs()] == ["look", "transfer_to_human", "end_call"]


async def test_built_in_tool_is_done_by_the_call_once(autojump_clock: trio.testing.MockClock) -> None:
    async with open_room() as room:
        room.desk.request("c1", "transfer_to_human", '{"reason": "angry"}', 1)
        room.desk.request("c2", "transfer_to_human", '{"reason": "angry"}', 1)
        assert room.wishes == [("transfer_to_human", "angry")]
        assert room.outputs == [("c1", "being connected"), ("c2", "being connected")]
        room.desk.request("c3", "end_call", "", 1)
        assert room.wishes[1:] == [("end_call", "")]


async def test_filler_is_said_only_when_it_takes_long(autojump_clock: trio.testing.MockClock) -> None:
    @tool(filler="Let me see.")
    async def nap(seconds: float) -> str:
        await trio.sleep(seconds)
        return "done"

    async with open_room(nap) as room:
        room.desk.request("c1", "nap", f'{{"seconds": {FILLER_AFTER_SECONDS - 0.1}}}', 1)
        await room.settled()
        assert room.fillers == []
        room.desk.request("c2", "nap", f'{{"seconds": {FILLER_AFTER_SECONDS + 0.1}}}', 1)
        await room.settled()
        assert room.fillers == ["Let me see."]


# -- what is answered without a run -----------------------------------------------------------------------


async def test_unknown_tool_and_bad_arguments_are_answered_and_noted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_room(look) as room:
        room.desk.request("c1", "luke", "{}", 1)
        room.desk.request("c2", "look", '{"day": 3}', 1)
        assert "The tools are: look, transfer_to_human, end_call" in room.error("c1")
        assert "Expected `str`" in room.error("c2")
        assert room.log.ends() == [("c1", "error"), ("c2", "error")]
        assert [fact.tool for fact in room.facts] == ["unknown", "look"]


async def test_repeated_call_id_is_not_answered_twice(autojump_clock: trio.testing.MockClock) -> None:
    async with open_room(look) as room:
        room.desk.request("c1", "look", "{}", 1)
        room.desk.request("c1", "look", "{}", 1)
        await room.settled()
        assert len(room.outputs) == 1


# -- faults of tools --------------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[[], str]:
    def fails() -> str:
        raise error

    return fails


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a secret"),
        SystemExit(1),
        KeyboardInterrupt(),
        GeneratorExit(),
        BaseExceptionGroup("a secret", [KeyboardInterrupt(), ValueError("a secret")]),
        OSError("a secret"),
    ],
)
async def test_tool_that_raises_gives_an_error_and_hurts_nobody(
    autojump_clock: trio.testing.MockClock, error: BaseException
) -> None:
    bad = tool(raising(error))
    async with open_room(bad, look) as room:
        room.desk.request("c1", "look", "{}", 1)
        room.desk.request("c2", "fails", "{}", 1)
        await room.settled()
        assert type(error).__name__ in room.error("c2")
        assert "secret" not in room.output("c2")
        assert room.output("c1") == "monday is free"
        assert ("c2", "error") in room.log.ends()


async def test_message_of_tool_failed_reaches_the_model(autojump_clock: trio.testing.MockClock) -> None:
    async with open_room(tool(raising(ToolFailed("That day is full.")))) as room:
        room.desk.request("c1", "fails", "{}", 1)
        await room.settled()
        assert room.error("c1") == "That day is full."


@pytest.mark.parametrize("junk", [object(), b"raw", float("nan"), {(1,): 2}])
async def test_junk_result_is_an_error(autojump_clock: trio.testing.MockClock, junk: Any) -> None:
    @tool
    def lies() -> Any:
        return junk

    async with open_room(lies) as room:
        room.desk.request("c1", "lies", "{}", 1)
        await room.settled()
        assert "failed" in room.error("c1")


async def test_flood_is_cut(autojump_clock: trio.testing.MockClock) -> None:
    @tool
    def floods() -> list[str]:
        return ["é" * 100_000] * 100

    async with open_room(floods) as room:
        room.desk.request("c1", "floods", "{}", 1)
        await room.settled()
        assert len(room.output("c1").encode()) <= OUTPUT_BYTES_MAX
        assert "cut" in room.output("c1")


async def test_tool_over_its_timeout_is_told_to_the_model(autojump_clock: trio.testing.MockClock) -> None:
    @tool
    async def slow() -> None:
        await trio.sleep_forever()

    done: list[str] = []
    async with open_room(slow, effect(done, seconds=60, timeout=3)) as room:
        began = trio.current_time()
        room.desk.request("c1", "slow", "{}", 1)
        room.desk.request("c2", "book", BOOK, 1)
        await room.settled()
        assert trio.current_time() - began == pytest.approx(10, abs=0.1)  # tool_timeout_seconds
        assert room.error("c1") == "The tool did not answer in time."
        assert "not known whether" in room.error("c2")
        assert sorted(room.log.ends()) == [("c1", "timeout"), ("c2", "timeout")]
        assert room.facts[0] == ToolRan("book", "timeout", pytest.approx(3, abs=0.05))
        # The same request again in the same turn does not run: it may have been carried out.
        room.desk.request("c3", "book", BOOK, 1)
        assert room.output("c3") == room.output("c2")
        assert len(done) == 1


async def test_blocked_thread_holds_nothing_up() -> None:
    release = threading.Event()

    @tool(timeout=0.05)
    def blocks() -> str:
        release.wait(60)
        return "too late"

    with trio.fail_after(30):
        async with open_room(blocks, runner=ThreadRunner()) as room:
            room.desk.request("c1", "blocks", "{}", 1)
            while room.desk.pending():
                await trio.lowlevel.checkpoint()
            assert "in time" in room.error("c1")
            room.desk.request("c2", "blocks", "{}", 2)
            await trio.lowlevel.checkpoint()
            room.desk.end()
    release.set()
    assert len(room.outputs) == 1


async def test_tool_without_a_free_thread_is_busy_and_may_be_tried_again() -> None:
    release = threading.Event()

    @tool(timeout=0.05, side_effects=True)
    def blocks(n: int) -> str:
        release.wait(60)
        return str(n)

    runner = ThreadRunner(threads_per_tool=1)
    async with open_room(blocks, runner=runner) as room:
        room.desk.request("c1", "blocks", '{"n": 1}', 1)
        await room.desk.wait_settled()
        room.desk.request("c2", "blocks", '{"n": 2}', 1)
        await room.desk.wait_settled()
        assert "busy" in room.error("c2")
        release.set()
        while runner.busy()["blocks"]:
            await trio.lowlevel.checkpoint()
        room.desk.request("c3", "blocks", '{"n": 2}', 1)
        await room.desk.wait_settled()
        assert room.output("c3") == "2"


# -- the journal ------------------------------------------------------------------------------------------


async def test_without_a_journal_side_effects_are_refused_and_others_run(
    autojump_clock: trio.testing.MockClock,
) -> None:
    done: list[str] = []
    async with open_room(effect(done), look) as room:
        room.log.down = True
        room.desk.request("c1", "book", BOOK, 1)
        room.desk.request("c2", "look", "{}", 1)
        await room.settled()
        assert done == []
        assert "Nothing was done" in room.error("c1")
        assert room.output("c2") == "monday is free"
        room.log.down = False
        room.desk.request("c3", "book", BOOK, 1)
        await room.settled()
        assert room.output("c3") == "booked monday"
        assert len(done) == 1


async def test_result_that_cannot_be_committed_is_given_all_the_same(
    autojump_clock: trio.testing.MockClock,
) -> None:
    done: list[str] = []
    async with open_room(effect(done)) as room:
        room.desk.request("c1", "book", BOOK, 1)
        await trio.sleep(0.5)
        room.log.delay = 3600
        await room.settled()
        assert room.output("c1") == "booked monday"
        assert room.desk.counters["result_not_committed"] == 1
        assert room.log.ends() == [("c1", "ok")]


# -- lost sessions, restarts, the end ---------------------------------------------------------------------


async def test_request_of_a_new_model_session_is_recognised(autojump_clock: trio.testing.MockClock) -> None:
    done: list[str] = []
    async with open_room(effect(done), look) as room:
        room.desk.request("old1", "book", BOOK, 1)
        room.desk.request("old2", "look", "{}", 1)
        await trio.sleep(0.5)
        room.desk.model_session_changed()
        room.desk.request("new1", "book", BOOK, 1)
        await room.settled()
        room.desk.model_session_changed()
        room.desk.request("newer1", "book", BOOK, 1)
        room.desk.request("newer2", "look", "{}", 1)
        assert len(done) == 1
        assert room.output("old1") == room.output("new1") == room.output("newer1") == "booked monday"
        assert room.output("newer2") == "monday is free"


async def test_nothing_is_said_after_the_end(autojump_clock: trio.testing.MockClock) -> None:
    done: list[str] = []
    async with open_room(effect(done, seconds=5), look) as room:
        room.desk.request("c1", "book", BOOK, 1)
        room.desk.request("c2", "look", "{}", 1)
        await trio.sleep(0.5)
        room.desk.end()
        room.desk.end()
        await trio.sleep(20)
        room.desk.request("c3", "look", "{}", 1)
        assert room.outputs == []
        assert sorted(room.log.ends()) == [("c1", "unknown"), ("c2", "error")]
        assert room.desk.decisions["unanswered_at_end"] == 2


async def test_end_cancels_what_runs(autojump_clock: trio.testing.MockClock) -> None:
    ended_at: list[float] = []

    @tool
    async def slow() -> None:
        try:
            await trio.sleep(9)
        finally:
            ended_at.append(trio.current_time())

    async with open_room(slow) as room:
        room.desk.request("c1", "slow", "{}", 1)
        await trio.sleep(0.5)
        room.desk.end()
        ended = trio.current_time()
        await trio.sleep(20)
        assert ended_at == [ended]


async def test_result_that_comes_with_the_end_is_dropped_and_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    @tool(side_effects=True)
    async def hangs_up() -> str:
        room.desk.end()
        return "too late"

    async with open_room(hangs_up) as room:
        room.desk.request("c1", "hangs_up", "{}", 1)
        await trio.sleep(1)
        assert room.outputs == []
        assert room.log.ends() == [("c1", "unknown")]
        assert room.desk.counters["late"] == 1


async def restart(room: Room) -> None:
    await room.supervisor.terminate_child("tools")
    await room.supervisor.restart_child("tools")


async def test_restarted_actor_settles_what_it_left_behind(autojump_clock: trio.testing.MockClock) -> None:
    done: list[str] = []
    async with open_room(effect(done, seconds=5), look) as room:
        room.desk.request("c1", "book", BOOK, 1)
        room.desk.request("c2", "look", "{}", 1)
        await trio.sleep(0.5)
        await restart(room)
        await room.settled()
        assert "not known whether" in room.error("c1")
        assert "may be called again" in room.error("c2")
        assert len(done) == 1
        assert ("c1", "unknown") in room.log.ends()
        room.desk.request("c3", "look", "{}", 1)
        await room.settled()
        assert room.output("c3") == "monday is free"


async def test_intent_that_was_not_yet_committed_has_not_run(autojump_clock: trio.testing.MockClock) -> None:
    done: list[str] = []
    async with open_room(effect(done)) as room:
        room.log.delay = 2
        room.desk.request("c1", "book", BOOK, 1)
        await trio.sleep(1)
        await restart(room)
        await room.settled()
        assert done == []
        assert "Nothing was done" in room.error("c1")


async def test_requests_made_while_the_actor_is_down_are_not_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_room(look) as room:
        await room.supervisor.terminate_child("tools")
        room.desk.request("c1", "look", "{}", 1)
        await room.supervisor.restart_child("tools")
        await room.settled()
        assert room.output("c1") == "monday is free"


# -- another process --------------------------------------------------------------------------------------


def use(
    status: str | None, name: str = "book", side_effects: bool = True, output: str | None = None
) -> ToolUse:
    return ToolUse(1, "old", name, '{"day":"monday"}', BOOK_KEY, side_effects, 0.0, status, output)


async def test_known_side_effect_of_a_dead_process_is_not_repeated(
    autojump_clock: trio.testing.MockClock,
) -> None:
    done: list[str] = []
    async with open_room(effect(done)) as room:
        assert room.desk.recover([use("ok", output="booked monday")]) == ()
        room.desk.request("new", "book", BOOK, 1)
        assert room.output("new") == "booked monday"
        assert done == []
        room.desk.request("next turn", "book", BOOK, 2)
        await room.settled()
        assert len(done) == 1


async def test_side_effect_without_an_end_is_unknown_and_not_repeated(
    autojump_clock: trio.testing.MockClock,
) -> None:
    done: list[str] = []
    async with open_room(effect(done)) as room:
        assert room.desk.recover([use(None)]) == ()
        assert room.log.ends() == [("old", "unknown")]
        room.desk.request("new", "book", BOOK, 1)
        assert "not known whether" in room.error("new")
        assert done == []


async def test_interrupted_tool_without_side_effects_may_run_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_room(look) as room:
        room.desk.recover([use(None, "look", side_effects=False)])
        assert room.log.ends() == [("old", "error")]
        room.desk.request("new", "look", "{}", 1)
        await room.settled()
        assert room.output("new") == "monday is free"


def answers(value: object) -> Callable[[str], object]:
    def resolve(key: str) -> object:
        assert key == BOOK_KEY
        if isinstance(value, BaseException):
            raise value
        return value

    return resolve


@pytest.mark.parametrize(
    ("value", "status", "says", "runs"),
    [
        ("booked after all", "ok", "booked after all", 0),
        (LookupError("no such booking"), "error", "before it was carried out", 1),
        (None, "unknown", "not known whether", 0),
        (OSError("down"), "unknown", "not known whether", 0),
        (SystemExit(), "unknown", "not known whether", 0),
    ],
)
async def test_resolve_is_asked_what_became_of_it(
    autojump_clock: trio.testing.MockClock, value: object, status: str, says: str, runs: int
) -> None:
    done: list[str] = []
    async with open_room(effect(done, resolve=answers(value))) as room:
        assert room.desk.recover([use(None)]) == ("old",)
        room.desk.request("new", "book", BOOK, 1)  # the new session asks before the answer is there
        await room.settled()
        assert says in room.output("old")
        assert room.output("new") == room.output("old")
        assert room.log.ends() == [("old", status)]
        room.desk.request("again", "book", BOOK, 1)
        await room.settled()
        assert len(done) == runs


async def test_resolve_that_hangs_leaves_the_outcome_unknown(autojump_clock: trio.testing.MockClock) -> None:
    async def resolve(key: str) -> str:
        await trio.sleep_forever()
        return ""

    async with open_room(effect([], resolve=resolve, timeout=2)) as room:
        room.desk.recover([use(None)])
        await room.settled()
        assert "not known whether" in room.error("old")


async def test_resolve_is_asked_after_a_restart_of_the_actor_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    done: list[str] = []
    async with open_room(effect(done, seconds=5, resolve=answers("booked after all"))) as room:
        room.desk.request("c1", "book", BOOK, 1)
        await trio.sleep(1)
        await restart(room)
        await room.settled()
        assert room.output("c1") == "booked after all"
        assert len(done) == 1


# -- any order of everything ------------------------------------------------------------------------------

STEP = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(["book", "look", "fails"]), st.integers(0, 2)),
    st.tuples(st.just("wait"), st.sampled_from([0.005, 0.3, 2.0])),
    st.tuples(st.just("turn")),
    st.tuples(st.just("lose")),
    st.tuples(st.just("restart")),
    st.tuples(st.just("journal"), st.booleans()),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(STEP, max_size=25), st.integers(0, 2**32))
def test_each_request_gets_one_output_and_each_side_effect_runs_once(
    steps: list[tuple[Any, ...]], seed: int
) -> None:
    done: list[str] = []
    asked: list[str] = []
    room = make(
        [effect(done), look, tool(raising(SystemExit(3)))], limits=Limits(same_per_turn=100, running=4)
    )

    async def play() -> None:
        turn = 0
        async with trio.open_nursery() as nursery:
            await nursery.start(room.supervisor.run)
            for step in steps:
                match step:
                    case ("ask", name, n):
                        asked.append(f"c{len(asked)}")
                        raw = "{}" if name == "fails" else json.dumps({"day": str(n)})
                        room.desk.request(asked[-1], name, raw, turn)
                    case ("wait", seconds):
                        await trio.sleep(seconds)
                    case ("turn",):
                        turn += 1
                    case ("lose",):
                        room.desk.model_session_changed()
                    case ("restart",):
                        await restart(room)
                    case ("journal", down):
                        room.log.down = down
            await room.settled()
            room.supervisor.stop()

    simulate(play, seed=seed)
    assert sorted(call_id for call_id, _ in room.outputs) == sorted(asked)
    assert len(done) == len(set(done))
    assert sorted(room.log.intents()) == sorted(set(room.log.intents()))
