"""Conformance: messages, asks, monitors, names; and that the books add up."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from supervision_world import RESTARTS, STRATEGIES, World, conformance, settle

from callrt.supervision import (
    ActorRef,
    AskTimeout,
    Backoff,
    DeadLetter,
    Down,
    MailboxFull,
    MailboxPolicy,
    NameTaken,
    Registry,
    ReplyTo,
    TargetDown,
)

Message = Any


def handler(seen: list[Any]) -> Any:
    """Appends what it gets; crashes on an exception, replies to a ReplyTo."""

    async def body(ctx: Any) -> None:
        while True:
            message = await ctx.receive()
            seen.append(message)
            if isinstance(message, BaseException):
                raise message
            if isinstance(message, ReplyTo):
                message.reply(ctx.incarnation)

    return body


@conformance
async def test_msg_1_one_sender_is_heard_in_order_one_at_a_time(world: World) -> None:
    seen: list[tuple[str, int]] = []
    busy = 0

    async def body(ctx: Any) -> None:
        nonlocal busy
        while True:
            message = await ctx.receive()
            busy += 1
            assert busy == 1
            seen.append(message)
            if world.rng.random() < 0.5:
                await trio.sleep(world.rng.random())
            busy -= 1

    async def send(ref: ActorRef[Any], name: str) -> None:
        for n in range(50):
            assert ref.tell((name, n))
            if world.rng.random() < 0.3:
                await trio.sleep(world.rng.random())

    sup = world.supervisor([world.spec("a", body=body)])
    async with world.up(sup):
        async with trio.open_nursery() as nursery:
            for name in "xyz":
                nursery.start_soon(send, sup.ref("a"), name)
        await trio.sleep(200)
    for name in "xyz":
        assert [n for sender, n in seen if sender == name] == list(range(50))


@conformance(lane=["control", "media"])
async def test_msg_2_full_mailbox_neither_blocks_nor_raises(world: World, lane: Any) -> None:
    policy = MailboxPolicy(capacity=3, media_capacity=3, media_full="refuse")
    sup = world.supervisor([world.spec("a", mailbox=policy)])
    async with world.up(sup):
        ref: ActorRef[int] = sup.ref("a")
        assert [ref.tell(n, lane) for n in range(5)] == [True, True, True, False, False]
        assert [report.why for report in world.of(DeadLetter)] == ["full", "full"]
        if lane == "control":
            with pytest.raises(MailboxFull):
                await ref.ask(lambda reply_to: reply_to, 1.0)  # type: ignore[arg-type,return-value]
    assert ref.statistics().dead_by_reason[0] == ("full", 3 if lane == "control" else 2)


@conformance
async def test_msg_2_full_media_lane_sheds_the_oldest_and_control_comes_first(world: World) -> None:
    seen: list[Any] = []
    go = trio.Event()

    async def body(ctx: Any) -> None:
        await go.wait()
        await handler(seen)(ctx)

    policy = MailboxPolicy(capacity=2, media_capacity=3)
    sup = world.supervisor([world.spec("a", body=body, mailbox=policy)])
    async with world.up(sup):
        ref: ActorRef[Any] = sup.ref("a")
        assert all(ref.tell(n, "media") for n in range(10))
        assert ref.tell("first")
        go.set()
        await settle()
        assert seen == ["first", 7, 8, 9]
        assert ref.statistics().dead_by_reason == (("shed", 7),)


@conformance(strategy=STRATEGIES, policy=["keep", "drop"])
async def test_msg_3_messages_while_down_are_kept_or_dropped(
    world: World, strategy: str, policy: str
) -> None:
    seen: list[Any] = []
    mailbox = MailboxPolicy.keep(3) if policy == "keep" else MailboxPolicy.drop(3)
    spec = world.spec("a", body=handler(seen), backoff=Backoff(min=1.0), mailbox=mailbox)
    sup = world.supervisor([spec], strategy)
    async with world.up(sup):
        ref: ActorRef[Any] = sup.ref("a")
        crash = ValueError()
        ref.tell(crash)
        await settle()
        accepted = [ref.tell(n) for n in range(5)]
        await trio.sleep(2)
        if policy == "keep":
            assert accepted == [True, True, True, False, False]
            assert seen == [crash, 0, 1, 2]
        else:
            assert accepted == [False] * 5
            assert seen == [crash]
            assert ref.statistics().dead_by_reason == (("down", 5),)


@conformance(strategy=STRATEGIES)
async def test_msg_4_message_that_crashed_its_actor_is_not_delivered_again(
    world: World, strategy: str
) -> None:
    seen: list[Any] = []
    sup = world.supervisor([world.spec("a", body=handler(seen))], strategy)
    async with world.up(sup):
        poison = ValueError("poison")
        sup.ref("a").tell(poison)
        sup.ref("a").tell("next")
        await settle()
        assert seen == [poison, "next"]
        assert world.count("up", "a") == 2


@conformance(restart=RESTARTS, how=["terminate", "end", "stop"])
async def test_msg_5_mail_for_the_dead_is_counted_and_asks_fail_at_once(
    world: World, restart: str, how: str
) -> None:
    if how == "end" and restart == "permanent":
        return
    sup = world.supervisor([world.spec("a", restart), world.spec("b")])
    failed: list[float] = []

    async with world.up(sup) as ended:
        ref: ActorRef[Any] = sup.ref("a")

        async def ask() -> None:
            with pytest.raises(TargetDown):
                await ref.ask(lambda reply_to: reply_to)
            failed.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            ref.tell("never read")
            nursery.start_soon(ask)
            await settle()
            if how == "terminate":
                await sup.terminate_child("a")
            elif how == "end":
                await world.finish("a")
            else:
                sup.stop()
                await ended.done.wait()
        assert failed == [0.0]
        assert ref.tell("too late") is False
        await ask()
        assert failed == [0.0, 0.0]
    assert ref.statistics().dead_by_reason == (("stopped", 4),)


@conformance
async def test_msg_6_ask_times_out_exactly_and_the_late_reply_is_a_dead_letter(world: World) -> None:
    kept: list[ReplyTo[int]] = []

    async def body(ctx: Any) -> None:
        kept.append(await ctx.receive())
        await trio.sleep(10)
        assert kept[0].reply(1) is False
        await trio.sleep_forever()

    sup = world.supervisor([world.spec("a", body=body)])
    async with world.up(sup):
        with pytest.raises(AskTimeout):
            await sup.ref("a").ask(lambda reply_to: reply_to, 2.5)
        assert trio.current_time() == 2.5
        await trio.sleep(10)
        assert ("late_reply", 1) in sup.ref("a").statistics().dead_by_reason
        assert isinstance(AskTimeout(), trio.TooSlowError)


@conformance(strategy=STRATEGIES)
async def test_msg_7_ask_in_handling_fails_with_its_handler_at_once(world: World, strategy: str) -> None:
    async def body(ctx: Any) -> None:
        await ctx.receive()
        await trio.sleep(1)
        raise LookupError("lost it")

    sup = world.supervisor(
        [world.spec("a", body=body), world.spec("slow", cleanup=30.0, shutdown=60)], strategy
    )
    async with world.up(sup):
        with pytest.raises(TargetDown, match="lost it") as caught:
            await sup.ref("a").ask(lambda reply_to: reply_to, 50.0)
        assert trio.current_time() == 1.0
        assert caught.value.target == "root/a"
        assert caught.value.reason is not None
        assert caught.value.reason.kind == "error"
        await trio.lowlevel.checkpoint()  # the asker itself is not cancelled


@conformance(strategy=STRATEGIES)
async def test_msg_7_ask_that_waits_in_the_mailbox_survives_a_restart(world: World, strategy: str) -> None:
    seen: list[Any] = []
    spec = world.spec("a", body=handler(seen), backoff=Backoff(min=1.0))
    sup = world.supervisor([spec], strategy)
    async with world.up(sup):
        sup.ref("a").tell(ValueError())
        assert await sup.ref("a").ask(lambda reply_to: reply_to, 5.0) == 2
        assert trio.current_time() == 1.0


@conformance(strategy=STRATEGIES)
async def test_msg_8_monitor_tells_once_per_incarnation(world: World, strategy: str) -> None:
    downs: list[Down] = []

    def broken(down: Down) -> None:
        raise ZeroDivisionError

    sup = world.supervisor([world.spec("a", backoff=Backoff(min=1.0))], strategy)
    async with world.up(sup):
        ref: ActorRef[Any] = sup.ref("a")
        monitor = ref.monitor(downs.append)
        silent = ref.monitor(downs.append)
        faulty = ref.monitor(broken)
        silent.demonitor()
        await world.crash("a")
        assert [(down.incarnation, down.reason.kind if down.reason else None) for down in downs] == [
            (1, "error")
        ]
        assert (await monitor.wait()).incarnation == 1
        assert faulty.faults == 1
        ref.monitor(downs.append)  # dead now: told at once
        assert len(downs) == 2
        await trio.sleep(1.5)
        assert world.count("up", "a") == 2
        assert len(downs) == 2
        ref.monitor(downs.append)
        await sup.terminate_child("a")
        assert [down.incarnation for down in downs] == [1, 1, 2]
        assert downs[-1].reason is not None
        assert downs[-1].reason.kind == "shutdown"


@conformance(strategy=STRATEGIES)
async def test_msg_9_name_leads_to_the_living_incarnation_or_nowhere(world: World, strategy: str) -> None:
    registry = Registry()
    found: list[Any] = []

    async def register(ctx: Any) -> None:
        registry.register("desk", ctx)

    async def taken(ctx: Any) -> None:
        with pytest.raises(NameTaken):
            registry.register("desk", ctx)

    specs = [world.spec("a", init=register, backoff=Backoff(min=1.0)), world.spec("b", init=taken)]
    sup = world.supervisor(specs, strategy)
    async with world.up(sup):
        assert registry.whereis("desk") == sup.ref("a")
        sup.ref("a").monitor(lambda down: found.append(registry.whereis("desk")))
        await world.crash("a")
        assert found == [None]
        assert registry.whereis("desk") is None
        await trio.sleep(1.5)
        now = registry.whereis("desk")
        assert now is not None
        assert (now.incarnation, now.alive) == (2, True)
    assert registry.names() == ()


@conformance
async def test_self_ask_fails_at_once(world: World) -> None:
    async def body(ctx: Any) -> None:
        with pytest.raises(RuntimeError, match="asks itself"):
            await ctx.ref.ask(lambda reply_to: reply_to, 1.0)
        await world.obey(ctx)

    async with world.up(world.supervisor([world.spec("a", body=body)])):
        await settle()
        assert world.count("up", "a") == 1
        assert trio.current_time() == 0.0


@conformance
async def test_receive_with_a_timeout_looks_once_more_and_loses_nothing(world: World) -> None:
    seen: list[Any] = []
    timeouts = 0

    async def body(ctx: Any) -> None:
        nonlocal timeouts
        while True:
            try:
                seen.append(await ctx.receive(timeout=1.0))
            except trio.TooSlowError:
                timeouts += 1
                with pytest.raises(trio.WouldBlock):  # at an exact tie the message wins
                    ctx.receive_nowait()

    sup = world.supervisor([world.spec("a", body=body)])
    async with world.up(sup):
        for n in range(30):
            await trio.sleep(world.rng.choice([0.5, 1.0, 1.5]))
            sup.ref("a").tell(n)
        await settle()
        assert seen == list(range(30))
        assert timeouts > 0


@conformance
async def test_cancelled_receive_loses_nothing(world: World) -> None:
    seen: list[Any] = []

    async def body(ctx: Any) -> None:
        while True:
            with trio.move_on_after(world.rng.choice([0.0, 0.1, 0.2])):
                seen.append(await ctx.receive())
            await trio.lowlevel.checkpoint()

    sup = world.supervisor([world.spec("a", body=body)])
    async with world.up(sup):
        for n in range(50):
            sup.ref("a").tell(n)
            await trio.sleep(world.rng.choice([0.05, 0.1]))
        await trio.sleep(5)
        assert seen == list(range(50))


@conformance(strategy=STRATEGIES)
async def test_books_add_up_in_a_storm(world: World, strategy: str) -> None:
    """G12: whatever crashes, is asked, shed, stopped or restarted: sent = handled + queued + dead at every step."""
    rng = world.rng

    async def body(ctx: Any) -> None:
        while True:
            message = await ctx.receive(timeout=rng.choice([1.0, math.inf]))
            if rng.random() < 0.05:
                raise ValueError
            if isinstance(message, ReplyTo) and rng.random() < 0.8:
                message.reply(1)
            if rng.random() < 0.3:
                await trio.sleep(rng.random())

    mailbox = MailboxPolicy("keep" if rng.random() < 0.5 else "drop", 4, 4)
    specs = [
        world.spec(id, body=body, mailbox=mailbox, backoff=Backoff(min=0.1, cap=0.5, jitter=0.5))
        for id in "abc"
    ]
    sup = world.supervisor(specs, strategy, max_restarts=10_000)

    async def client() -> None:
        for _ in range(60):
            ref: ActorRef[Any] = sup.ref(rng.choice("abc"))
            if rng.random() < 0.3:
                try:
                    await ref.ask(lambda reply_to: reply_to, rng.random())
                except (TargetDown, AskTimeout, MailboxFull):
                    await trio.sleep(0.01)
            else:
                ref.tell("hello", rng.choice(["control", "media"]))
                await trio.sleep(rng.random() / 10)
            for address in world.addresses:
                assert address.statistics().adds_up

    async with world.up(sup), trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(client)
        for _ in range(5):
            await trio.sleep(1)
            await sup.terminate_child("c")
            await trio.sleep(0.5)
            if sup.which_children()[2].state == "stopped":
                await sup.restart_child("c")
