"""Conformance: specs are checked before anything starts; the start is a handshake."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.lowlevel
from supervision_world import INF, STRATEGIES, World, conformance, settle

from callrt.supervision import (
    Backoff,
    ChildSpec,
    Decline,
    DynamicSupervisor,
    NotFound,
    SpecError,
    StartFailed,
    StartFailure,
    Supervisor,
)


async def idle(ctx: Any, *, task_status: Any) -> None:
    task_status.started()
    await trio.sleep_forever()


@conformance
async def test_val_1_duplicate_id_is_rejected_and_nothing_starts(world: World) -> None:
    with pytest.raises(SpecError, match="'b'") as caught:
        world.supervisor(world.specs("abb"))
    assert caught.value.field == "child 'b': id"
    await settle()
    assert world.log == []


@conformance
async def test_val_2_bad_value_is_rejected_naming_the_field(world: World) -> None:
    bad_settings: list[tuple[str, dict[str, Any]]] = [
        ("strategy", {"strategy": "one_for_two"}),
        ("max_restarts", {"max_restarts": -1}),
        ("max_restarts", {"max_restarts": 1.5}),
        ("max_restarts", {"max_restarts": True}),
        ("period", {"period": 0}),
        ("period", {"period": INF}),
        ("period", {"period": math.nan}),
        ("auto_shutdown", {"auto_shutdown": "sometimes"}),
    ]
    for field, settings in bad_settings:
        with pytest.raises(SpecError) as caught:
            Supervisor([], **settings)
        assert caught.value.field == field, settings
        if field not in ("strategy",):
            with pytest.raises(SpecError):
                DynamicSupervisor(**settings)
    bad_specs: list[tuple[str, dict[str, Any]]] = [
        ("restart", {"restart": "always"}),
        ("shutdown", {"shutdown": -1}),
        ("shutdown", {"shutdown": math.nan}),
        ("shutdown", {"shutdown": "5"}),
        ("start_timeout", {"start_timeout": 0}),
        ("kind", {"kind": "boss"}),
        ("significant", {"significant": "yes"}),
        ("start", {"start": 7}),
        ("id", {"id": []}),
        ("mailbox", {"mailbox": 10}),
        ("backoff", {"backoff": 1.0}),
        ("on_unresponsive", {"on_unresponsive": "kill"}),
        ("give_up_on", {"give_up_on": ("ValueError",)}),
    ]
    for field, settings in bad_specs:
        with pytest.raises(SpecError) as caught:
            ChildSpec(**{"id": "a", "start": idle, **settings})
        assert caught.value.field.endswith(field), settings
    for field, settings in [
        ("min", {"min": -1.0}),
        ("factor", {"factor": 0.5}),
        ("cap", {"min": 2.0, "cap": 1.0}),
        ("jitter", {"jitter": -0.1}),
        ("reset_after", {"reset_after": math.nan}),
        ("max_consecutive", {"max_consecutive": -1}),
    ]:
        with pytest.raises(SpecError) as caught:
            Backoff(**settings)
        assert caught.value.field == f"backoff.{field}"
    with pytest.raises(SpecError, match="ChildSpec"):
        Supervisor([("a", idle)])  # type: ignore[list-item]


@conformance
async def test_val_3_significant_needs_a_child_that_can_end_and_a_mode(world: World) -> None:
    with pytest.raises(SpecError, match="permanent"):
        world.spec("a", "permanent", significant=True)
    with pytest.raises(SpecError, match="auto_shutdown"):
        world.supervisor([world.spec("a", "transient", significant=True)])
    sup = world.supervisor()
    async with world.up(sup):
        with pytest.raises(SpecError, match="auto_shutdown"):
            await sup.start_child(world.spec("a", "transient", significant=True))
        assert sup.which_children() == ()


@conformance
async def test_val_4_defaults_read_back(world: World) -> None:
    sup = Supervisor([ChildSpec("w", idle), ChildSpec("s", world.nested().run, kind="supervisor")])

    def look() -> None:
        worker, supervisor = sup.spec("w"), sup.spec("s")
        assert (worker.restart, worker.significant, worker.shutdown) == ("permanent", False, 5.0)
        assert (supervisor.restart, supervisor.significant, supervisor.shutdown) == ("permanent", False, INF)
        with pytest.raises(NotFound):
            sup.spec("nobody")

    look()
    async with world.up(sup):
        look()


@conformance
async def test_val_5_dynamic_supervisor_refuses_auto_shutdown_and_significance(world: World) -> None:
    for mode in ("any_significant", "all_significant"):
        with pytest.raises(SpecError, match="auto_shutdown"):
            DynamicSupervisor(auto_shutdown=mode)  # type: ignore[arg-type]
    sup = world.dynamic()
    async with world.up(sup):
        with pytest.raises(SpecError, match="significant"):
            await sup.start_child(world.spec("a", "temporary", significant=True))


@conformance(strategy=STRATEGIES)
async def test_sta_1_next_child_starts_only_after_the_ack_of_the_one_before(
    world: World, strategy: str
) -> None:
    async def slow(ctx: Any) -> None:
        await trio.sleep(1)

    async with world.up(world.supervisor(world.specs("abc", init=slow), strategy)):
        assert world.what("attempt", "up") == [
            "attempt a",
            "up a",
            "attempt b",
            "up b",
            "attempt c",
            "up c",
        ]
        assert trio.current_time() == 3.0


@conformance
async def test_sta_2_parent_has_started_a_supervisor_only_after_its_last_ack(world: World) -> None:
    async def slow(ctx: Any) -> None:
        await trio.sleep(1)

    inner = world.nested(world.specs("ab", init=slow))
    outer = world.supervisor([ChildSpec("inner", inner.run, kind="supervisor"), world.spec("z")])
    async with world.up(outer):
        assert world.times("attempt", "z") == [2.0]
        assert world.what("up") == ["up a", "up b", "up z"]
        handle_of_inner = outer.spec("inner")
        assert handle_of_inner.kind == "supervisor"


@conformance(strategy=STRATEGIES, depth=[0, 1])
async def test_sta_3_failed_start_stops_the_started_ones_and_tries_no_more(
    world: World, strategy: str, depth: int
) -> None:
    async def fail(ctx: Any) -> None:
        await trio.sleep(0.5)
        raise LookupError("no line")

    specs = [world.spec("a"), world.spec("b"), world.spec("c", init=fail), world.spec("d")]
    if depth == 0:
        error = await world.run(world.supervisor(specs, strategy))
    else:
        inner = world.nested(specs, strategy)
        error = await world.run(world.supervisor([ChildSpec("in", inner.run, kind="supervisor")]))
        assert isinstance(error, StartFailed)
        assert error.id == "in"
        assert isinstance(error.__cause__, StartFailed)
        assert error.__cause__.id == "c"
    assert isinstance(error, StartFailed)
    assert "'c'" in str(error)
    assert isinstance(error.cause, LookupError)
    assert world.what("attempt", "down") == [
        "attempt a",
        "attempt b",
        "attempt c",
        "down c",
        "down b",
        "down a",
    ]


@conformance(strategy=STRATEGIES)
async def test_sta_4_first_start_is_tried_once_only(world: World, strategy: str) -> None:
    async def fail(ctx: Any) -> None:
        raise LookupError

    error = await world.run(world.supervisor([world.spec("a", init=fail)], strategy, max_restarts=100))
    assert isinstance(error, StartFailed)
    assert world.count("attempt", "a") == 1
    assert len(world.of(StartFailure, id="a", kind="error")) == 1


@conformance(strategy=STRATEGIES)
async def test_sta_5_declining_is_no_failure(world: World, strategy: str) -> None:
    async def decline(ctx: Any) -> None:
        raise Decline

    specs = [world.spec("a", init=decline), world.spec("t", "temporary", init=decline), world.spec("b")]
    sup = world.supervisor(specs, strategy)
    async with world.up(sup):
        assert [(info.id, info.state) for info in sup.which_children()] == [
            ("a", "stopped"),
            ("b", "running"),
        ]
        assert sup.count_children().active == 1
        late = await sup.start_child(world.spec("u", "temporary", init=decline))
        assert late.declined
        kept = await sup.start_child(world.spec("v", "transient", init=decline))
        assert kept.declined
        assert [info.id for info in sup.which_children()] == ["a", "b", "v"]


@conformance
async def test_sta_6_return_without_ack_is_a_start_failure_that_says_so(world: World) -> None:
    async def start(ctx: Any, *, task_status: Any) -> None:
        await trio.lowlevel.checkpoint()

    error = await world.run(world.supervisor([ChildSpec("a", start)]))
    assert isinstance(error, StartFailed)
    assert error.kind == "no_ack"
    assert "without calling task_status.started()" in str(error)


@conformance(strategy=STRATEGIES)
async def test_sta_7_start_timeout_cancels_the_child_first_and_then_fails(
    world: World, strategy: str
) -> None:
    async def hang(ctx: Any) -> None:
        await trio.sleep_forever()

    specs = [world.spec("a"), world.spec("b", init=hang, start_timeout=2.0, cleanup=1.0)]
    error = await world.run(world.supervisor(specs, strategy))
    assert isinstance(error, StartFailed)
    assert (error.id, error.kind) == ("b", "timeout")
    assert world.times("told", "b") == [2.0]
    assert world.what("down") == ["down b", "down a"]
    assert world.times("down", "b") == world.times("down", "a") == [3.0]


@conformance(strategy=STRATEGIES, how=["cancel", "stop"])
async def test_sta_8_stop_during_a_hanging_start_is_prompt_and_ordered(
    world: World, strategy: str, how: str
) -> None:
    async def hang(ctx: Any) -> None:
        await trio.sleep_forever()

    specs = [world.spec("a"), world.spec("b", init=hang, cleanup=0.5), world.spec("c")]
    sup = world.supervisor(specs, strategy)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run, sup)
        await trio.sleep(3)
        if how == "stop":
            sup.stop()
        else:
            nursery.cancel_scope.cancel()
    assert world.what("attempt", "told", "down") == [
        "attempt a",
        "attempt b",
        "told b",
        "down b",
        "told a",
        "down a",
    ]
    assert trio.current_time() == 3.5
    assert sup.running is False


@conformance
async def test_sta_9_value_of_the_ack_reaches_the_caller_unchanged(world: World) -> None:
    value = object()
    sup = world.supervisor()
    async with world.up(sup):
        handle = await sup.start_child(world.spec("a", value=value))
        assert handle.value is value
        await sup.terminate_child("a")
        assert (await sup.restart_child("a")).value is value
        await world.crash("a")
        assert world.count("up", "a") == 3
    async with trio.open_nursery() as nursery:
        assert await nursery.start(sup.run) is sup
        sup.stop()
