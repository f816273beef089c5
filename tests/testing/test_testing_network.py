"""Laws of a world's network: order, latency, half-open, back-pressure, ends; the same under both virtual clocks."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

import callrt.testing.network as network_module
from callrt.testing.links import MemoryTransport, memory_link
from callrt.testing.network import JumpClock, Network
from callrt.wire.transport import TransportClosed, deliver

CLOCKS: dict[str, Callable[[], trio.abc.Clock]] = {
    "jumping": JumpClock,
    "autojumping": lambda: MockClock(autojump_threshold=0),
}


@pytest.fixture(params=list(CLOCKS))
def play(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs ``scene(network)`` beside the network, in virtual time."""
    return partial(run, CLOCKS[request.param])


def run(clock: Callable[[], trio.abc.Clock], scene: Callable[[Network], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with trio.open_nursery() as nursery:
            network = Network(random.Random(1))
            nursery.start_soon(network.run)
            result = await scene(network)
            nursery.cancel_scope.cancel()
            return result

    return trio.run(main, clock=clock())


def keeping(store: list[Any], *, enough: int | None = None) -> Callable[[str | bytes], bool]:
    def sink(message: str | bytes) -> bool:
        store.append((message, round(trio.current_time(), 6)))
        return enough is None or len(store) < enough

    return sink


def test_delivered_messages_keep_order_and_latency(play: Callable[..., Any]) -> None:
    async def scene(network: Network) -> list[Any]:
        here, there = memory_link(latency=0.05, network=network)
        got: list[Any] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deliver, there, keeping(got, enough=4))
            for number in range(4):
                here.send_nowait(str(number))
                await trio.sleep(0.02)
        return got

    assert play(scene) == [("0", 0.05), ("1", 0.07), ("2", 0.09), ("3", 0.11)]


def test_delivery_stops_where_the_sink_has_enough(play: Callable[..., Any]) -> None:
    async def scene(network: Network) -> tuple[list[Any], list[Any]]:
        here, there = memory_link(network=network)
        first: list[Any] = []
        rest: list[Any] = []
        for number in range(5):
            here.send_nowait(str(number))
        await deliver(there, keeping(first, enough=2))
        await deliver(there, keeping(rest, enough=3))
        return [m for m, _ in first], [m for m, _ in rest]

    assert play(scene) == (["0", "1"], ["2", "3", "4"])


def test_failing_sink_fells_its_reader_and_not_the_sender(play: Callable[..., Any]) -> None:
    async def scene(network: Network) -> str:
        here, there = memory_link(network=network)

        def sink(message: str | bytes) -> bool:
            raise ZeroDivisionError(message)

        here.send_nowait("x")
        with pytest.raises(ZeroDivisionError):
            await deliver(there, sink)
        here.send_nowait("y")
        return str(await there.receive())

    assert play(scene) == "y"


@pytest.mark.parametrize("how", ["abort", "close", "own_abort", "abort_in_sink"])
def test_end_of_a_link_ends_its_delivery(play: Callable[..., Any], how: str) -> None:
    async def scene(network: Network) -> tuple[int, int | None, bool]:
        here, there = memory_link(latency=0.01, network=network)
        got: list[Any] = []

        def sink(message: str | bytes) -> bool:
            got.append(message)
            if how == "abort_in_sink":
                there.abort()
            return True

        async def end() -> None:
            here.send_nowait("last words")
            here.send_nowait("more")
            await trio.sleep(0.03)
            if how == "close":
                await here.aclose(1001)
            elif how == "abort":
                here.abort()
            elif how == "own_abort":
                there.abort()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)
            with pytest.raises(TransportClosed) as caught:
                await deliver(there, sink)
        return len(got), caught.value.code, caught.value.by_peer

    expected = {"abort": (2, None, True), "close": (2, 1001, True), "own_abort": (2, None, False)}
    assert play(scene) == expected.get(how, (1, None, False))


def test_half_open_link_delivers_when_it_is_thawed(play: Callable[..., Any]) -> None:
    async def scene(network: Network) -> list[Any]:
        here, there = memory_link(latency=0.02, network=network)
        got: list[Any] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deliver, there, keeping(got, enough=2))
            here.send_nowait("under way")
            here.freeze()
            here.send_nowait("behind")
            await trio.sleep(1)
            assert got == []
            here.thaw()
        return got

    assert play(scene) == [("under way", 1.02), ("behind", 1.02)]


def test_cancelled_delivery_loses_nothing(play: Callable[..., Any]) -> None:
    async def scene(network: Network) -> list[str | bytes]:
        here, there = memory_link(latency=0.1, network=network)
        here.send_nowait("kept")
        with trio.move_on_after(0.05):
            await deliver(there, lambda message: pytest.fail("too early"))
        return [await there.receive()]

    assert play(scene) == ["kept"]


def test_answers_without_end_at_one_instant_are_an_error(
    play: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_module, "AT_ONCE_MAX", 1000)

    async def scene(network: Network) -> None:
        here, there = memory_link(network=network)

        def echo(end: MemoryTransport) -> Callable[[str | bytes], bool]:
            return end.send_nowait

        here.send_nowait("ping")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deliver, here, echo(here))
            nursery.start_soon(deliver, there, echo(there))

    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="time stands still")):
        play(scene)


def test_tasks_that_wake_each_other_without_end_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_module, "AT_ONCE_MAX", 1000)

    async def scene(network: Network) -> None:
        while True:
            await trio.lowlevel.checkpoint()

    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="time stands still")):
        run(JumpClock, scene)


def test_messages_do_not_wait_until_all_tasks_are_idle(play: Callable[..., Any]) -> None:
    """What was sent before a long exchange of other tasks is there before it is over."""

    async def scene(network: Network) -> bool:
        here, there = memory_link(network=network)
        got: list[Any] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deliver, there, keeping(got, enough=1))
            await trio.sleep(0.01)
            here.send_nowait("first")
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            return bool(got)

    assert play(scene)


def test_time_is_kept_on_the_grid_until_the_beat_has_enough(play: Callable[..., Any]) -> None:
    async def scene(network: Network) -> list[float]:
        await trio.sleep(0.5)
        beats: list[float] = []

        def beat(at: float) -> bool:
            beats.append(at - trio.current_time())
            return len(beats) < 100

        began = trio.current_time()
        await network.keep_time(began, 0.02, beat)
        return [len(beats), max(map(abs, beats)), round(trio.current_time() - began, 6)]

    assert play(scene) == [100, pytest.approx(0, abs=1e-9), 1.98]


def test_cancelled_time_is_not_kept_any_more(play: Callable[..., Any]) -> None:
    async def scene(network: Network) -> int:
        beats: list[float] = []

        def beat(at: float) -> bool:
            beats.append(at)
            return True

        with trio.move_on_after(0.05):
            await network.keep_time(trio.current_time(), 0.02, beat)
        await trio.sleep(1)
        return len(beats)

    assert play(scene) == 3


def test_sleepers_wake_in_time_between_arrivals(play: Callable[..., Any]) -> None:
    """The network must not run away with the clock while a task has something to do."""

    async def scene(network: Network) -> list[float]:
        woken: list[float] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(network.keep_time, trio.current_time(), 0.02, lambda at: at < 0.9)
            for number in range(30):
                await trio.sleep(0.013 + number / 10_000)
                woken.append(trio.current_time())
        return woken

    expected = [sum(0.013 + number / 10_000 for number in range(n + 1)) for n in range(30)]
    assert play(scene) == pytest.approx(expected)


@given(
    st.lists(st.one_of(st.text(max_size=50), st.binary(max_size=50)), min_size=1, max_size=40),
    st.floats(0, 1),
    st.integers(1, 200),
    st.sampled_from(sorted(CLOCKS)),
)
def test_whatever_is_accepted_is_delivered_once_in_order(
    messages: list[str | bytes], latency: float, window: int, clock: str
) -> None:
    async def scene(network: Network) -> list[str | bytes]:
        here, there = memory_link(latency=latency, window_bytes=window, network=network)
        got: list[str | bytes] = []

        def sink(message: str | bytes) -> bool:
            got.append(message)
            return len(got) < len(messages)

        for message in messages:
            assert here.send_nowait(message)
        await deliver(there, sink)
        return got

    assert run(CLOCKS[clock], scene) == messages
