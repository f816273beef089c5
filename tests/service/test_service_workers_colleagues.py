"""Workers of one process in these tests: real lines between them, one switchboard, answers that say who gave them."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing

from callrt.policy import facts
from callrt.service.forms import Form
from callrt.service.http import HttpResponse
from callrt.service.workers.channel import Channel, ChannelClosed
from callrt.service.workers.colleagues import WHOSE_SECONDS, Colleagues
from callrt.service.workers.messages import Beat, Drain, Ready, StepBack, Tell, Told
from callrt.service.workers.switchboard import Member, Switchboard

ACTION = "/twilio/action"
FORM = Form((("CallSid", "CA1"),))


@attrs.define(eq=False)
class Worker:
    name: str
    colleagues: Colleagues
    member: Member
    parents_end: Channel
    answers: Callable[[], Awaitable[HttpResponse]] | None = None
    adopted: list[tuple[trio.abc.Stream, bytes]] = attrs.field(factory=list)

    async def answer(self, path: str, form: Form) -> HttpResponse:
        if self.answers is not None:
            return await self.answers()
        return HttpResponse(200, f"{self.name} {path} {form.get('CallSid')}".encode(), "text/xml")

    async def adopt(self, stream: trio.abc.Stream, head: bytes) -> None:
        self.adopted.append((stream, head))
        await stream.send_all(head + self.name.encode())

    async def tell(self, tell: Tell) -> Told:
        return Told(0, calls=({"call_sid": self.name},), not_ready=self.name)


@asynccontextmanager
async def house(*, listening: bool = True) -> AsyncIterator[tuple[Switchboard, list[Worker]]]:
    """Two workers. ``listening``: whether the parent reads what they say."""
    switchboard = Switchboard()
    workers: list[Worker] = []

    async def listen(worker: Worker) -> None:
        try:
            while True:
                message, descriptor = await worker.parents_end.receive()
                switchboard.hear(worker.member, message, descriptor)
        except ChannelClosed:
            pass

    async with trio.open_nursery() as nursery:
        for number in (1, 2):
            parents_end, theirs = (Channel(end) for end in socket.socketpair())
            member = switchboard.joined(number, parents_end)
            worker = Worker(f"worker {number}", Colleagues(theirs), member, parents_end)
            colleagues = worker.colleagues
            colleagues.answer, colleagues.adopt, colleagues.tell = worker.answer, worker.adopt, worker.tell
            workers.append(worker)
            nursery.start_soon(parents_end.run)
            await nursery.start(colleagues.run)
            colleagues.say(Ready())
            if listening:
                nursery.start_soon(listen, worker)
                await member.ready.wait()
        with trio.fail_after(60):
            yield switchboard, workers
        nursery.cancel_scope.cancel()
    for worker in workers:
        worker.parents_end.close()
        worker.colleagues.channel.close()


async def test_webhook_is_answered_by_the_worker_that_has_the_call() -> None:
    async with house() as (switchboard, (one, two)):
        one.colleagues.observe(facts.CallStarted("CA1"))
        await trio.testing.wait_all_tasks_blocked()
        assert await one.colleagues.ask("CA1", ACTION, FORM) is None, "its own"
        response = await two.colleagues.ask("CA1", ACTION, FORM)
        assert response == HttpResponse(200, f"worker 1 {ACTION} CA1".encode(), "text/xml")
        one.colleagues.observe(facts.CallEnded("completed", "CA1"))
        await trio.testing.wait_all_tasks_blocked()
        assert switchboard.homes.load(one.member.serial) == 0
        assert await two.colleagues.ask("CA1", ACTION, FORM) is not None, "it remembers the call"


async def test_question_that_leaves_no_call_counts_for_none() -> None:
    async with house() as (switchboard, (one, two)):
        for number in range(6):
            asked = (one, two)[number % 2].colleagues
            if await asked.ask(f"CA{number}", ACTION, FORM) is None:
                asked.settled(f"CA{number}")
        await trio.testing.wait_all_tasks_blocked()
        assert [switchboard.homes.load(worker.member.serial) for worker in (one, two)] == [0, 0]


async def test_answer_that_fails_is_a_500_and_costs_no_other() -> None:
    async def fails() -> HttpResponse:
        raise RuntimeError("private detail")

    async with house() as (_, (one, two)):
        one.colleagues.observe(facts.CallStarted("CA1"))
        one.answers = fails
        await trio.testing.wait_all_tasks_blocked()
        response = await two.colleagues.ask("CA1", ACTION, FORM)
        assert response is not None
        assert response.status == 500
        assert b"private" not in response.body
        one.answers = None
        response = await two.colleagues.ask("CA1", ACTION, FORM)
        assert response is not None
        assert response.status == 200


async def test_question_whose_worker_dies_is_ones_own() -> None:
    async with house() as (switchboard, (one, two)):
        one.answers = trio.sleep_forever
        one.colleagues.observe(facts.CallStarted("CA1"))
        await trio.testing.wait_all_tasks_blocked()
        answers: list[HttpResponse | None] = []

        async def ask() -> None:
            answers.append(await two.colleagues.ask("CA1", ACTION, FORM))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            assert answers == []
            switchboard.left(one.member)
        assert answers == [None]


async def test_media_socket_changes_hands_and_nobody_outside_notices() -> None:
    async with house() as (_, (one, two)):
        one.colleagues.observe(facts.CallStarted("CA1"))
        await trio.testing.wait_all_tasks_blocked()
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        caller = await trio.open_tcp_stream(*listener.socket.getsockname())
        accepted = await listener.accept()
        assert not await one.colleagues.pass_on("CA1", accepted, b"head "), "its own"
        assert await two.colleagues.pass_on("CA1", accepted, b"head ")
        await trio.aclose_forcefully(accepted)
        assert await caller.receive_some(100) == b"head worker 1"
        assert await caller.receive_some(100) == b"", "closed by who has it"
        assert [head for _, head in one.adopted] == [b"head "]
        await caller.aclose()
        await listener.aclose()


async def test_without_a_parent_each_answers_by_itself_and_is_told_so() -> None:
    async with house() as (_, (one, two)):
        one.colleagues.observe(facts.CallStarted("CA1"))
        await trio.testing.wait_all_tasks_blocked()
        two.parents_end.close()
        assert await two.colleagues.next_order() is None
        assert await two.colleagues.ask("CA1", ACTION, FORM) is None
        stream, _other = trio.testing.memory_stream_pair()
        assert not await two.colleagues.pass_on("CA1", stream, b"")


async def test_parent_that_stands_still_costs_two_seconds_and_no_call() -> None:
    clock = trio.testing.MockClock(autojump_threshold=0.05)

    async def main() -> None:
        async with house(listening=False) as (_, (one, _two)):
            begun = trio.current_time()
            assert await one.colleagues.ask("CA1", ACTION, FORM) is None
            assert trio.current_time() - begun == pytest.approx(WHOSE_SECONDS, abs=0.01)

    await trio.to_thread.run_sync(lambda: trio.run(main, clock=clock))


async def test_orders_come_in_order() -> None:
    async with house() as (_, (one, _)):
        one.parents_end.send(StepBack())
        one.parents_end.send(Drain(True))
        assert await one.colleagues.next_order() == StepBack()
        assert await one.colleagues.next_order() == Drain(True)


async def test_inquiries_and_beats_say_what_the_worker_says() -> None:
    async with house() as (switchboard, _):
        told = await switchboard.inquire("calls")
        assert [(member.number, each.calls) for member, each in told] == [
            (1, ({"call_sid": "worker 1"},)),
            (2, ({"call_sid": "worker 2"},)),
        ]


async def test_worker_says_that_its_loop_turns() -> None:
    ours, theirs = (Channel(end) for end in socket.socketpair())
    colleagues = Colleagues(theirs)

    async def tell(_tell: Tell) -> Told:
        return Told(0)

    colleagues.tell = tell
    async with trio.open_nursery() as nursery:
        await nursery.start(colleagues.run)
        with trio.fail_after(20):
            assert (await ours.receive())[0] == Beat()
            assert (await ours.receive())[0] == Beat()
        nursery.cancel_scope.cancel()
    ours.close()
    theirs.close()
