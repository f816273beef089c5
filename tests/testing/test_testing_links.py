"""Laws of memory links: order, latency, ends, half-open, back-pressure; all in virtual time."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from callrt.testing.links import memory_link
from callrt.wire.transport import TransportClosed


async def test_messages_arrive_in_order_after_the_latency(autojump_clock: trio.testing.MockClock) -> None:
    here, there = memory_link(latency=0.05)
    started = trio.current_time()
    for number in range(10):
        assert here.send_nowait(str(number))
    with pytest.raises(trio.WouldBlock):
        there.receive_nowait()
    assert [await there.receive() for _ in range(10)] == [str(number) for number in range(10)]
    assert trio.current_time() - started == pytest.approx(0.05)


async def test_text_and_bytes_stay_what_they_are(autojump_clock: trio.testing.MockClock) -> None:
    here, there = memory_link()
    here.send_nowait("é")
    here.send_nowait(b"\xff")
    assert [await there.receive(), await there.receive()] == ["é", b"\xff"]


async def test_abort_reaches_the_other_end_as_a_lost_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here, there = memory_link()
    here.abort()
    for end, by_peer in ((here, False), (there, True)):
        with pytest.raises(TransportClosed) as caught:
            await end.receive()
        assert (caught.value.code, caught.value.reason, caught.value.by_peer) == (None, "", by_peer)
    assert not here.send_nowait("x")
    assert not there.send_nowait("x")


async def test_close_follows_what_was_written_before_it(autojump_clock: trio.testing.MockClock) -> None:
    here, there = memory_link(latency=0.01)
    here.send_nowait("last words")
    await here.aclose(1001, "session over")
    assert await there.receive() == "last words"
    with pytest.raises(TransportClosed) as caught:
        await there.receive()
    assert (caught.value.code, caught.value.reason, caught.value.by_peer) == (1001, "session over", True)


async def test_close_that_was_not_read_yet_is_not_overtaken_by_a_failed_send(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here, there = memory_link()
    await here.aclose(3000, "bad key")
    assert there.send_nowait("into the void")
    with pytest.raises(TransportClosed) as caught:
        await there.receive()
    assert caught.value.code == 3000
    assert not there.send_nowait("x")


async def test_close_is_idempotent_and_bounded_by_a_reader_that_never_reads(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here, there = memory_link(window_bytes=100)
    for _ in range(10):
        assert here.send_nowait("x" * 60)
    started = trio.current_time()
    await here.aclose()
    assert trio.current_time() - started == pytest.approx(2.0)
    await here.aclose()
    assert await there.receive() == "x" * 60
    with pytest.raises(TransportClosed) as caught:
        await there.receive()
    assert caught.value.code is None


async def test_half_open_link_is_silent_until_thawed(autojump_clock: trio.testing.MockClock) -> None:
    here, there = memory_link(latency=0.02)
    here.send_nowait("under way")
    here.freeze()
    assert there.send_nowait("never told")
    here.abort()
    with trio.move_on_after(60):
        await there.receive()
        pytest.fail("nothing may get through a frozen link")
    assert not there.has_ended
    there.thaw()
    assert await there.receive() == "under way"
    with pytest.raises(TransportClosed):
        await there.receive()


async def test_what_had_arrived_before_the_freeze_can_still_be_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here, there = memory_link(latency=0.02)
    here.send_nowait("arrived")
    await trio.sleep(0.03)
    here.freeze()
    assert there.receive_nowait() == "arrived"


async def test_slow_reader_fills_the_window_then_the_backlog_then_refuses(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here, there = memory_link(window_bytes=1000, backlog_bytes=500)
    accepted = 0
    while here.send_nowait("x" * 100):
        accepted += 1
    assert accepted == 15
    assert here.statistics().backlog_bytes == 500
    assert here.statistics().sent_messages == 15
    await there.receive()
    assert here.statistics().backlog_bytes == 400
    assert here.send_nowait("x" * 100)
    assert not here.send_nowait("x" * 100)
    for _ in range(15):
        await there.receive()
    assert there.statistics().received_messages == 16
    assert here.statistics().backlog_bytes == 0


async def test_cancelled_receive_loses_nothing(autojump_clock: trio.testing.MockClock) -> None:
    here, there = memory_link(latency=0.1)
    here.send_nowait("kept")
    with trio.move_on_after(0.05):
        await there.receive()
    assert await there.receive() == "kept"


async def test_one_reader_at_a_time(autojump_clock: trio.testing.MockClock) -> None:
    _, there = memory_link()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(there.receive)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await there.receive()
        nursery.cancel_scope.cancel()


async def test_ping_takes_a_round_trip_and_hangs_while_half_open(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here, there = memory_link(latency=0.05)
    there.pong_delay = 0.4
    started = trio.current_time()
    await here.ping()
    assert trio.current_time() - started == pytest.approx(0.5)
    there.freeze()
    with trio.move_on_after(60) as limit:
        await here.ping()
    assert limit.cancelled_caught


async def test_ping_ends_when_the_other_end_is_gone(autojump_clock: trio.testing.MockClock) -> None:
    here, there = memory_link(latency=0.05)
    there.abort()
    with pytest.raises(TransportClosed):
        await here.ping()


@given(
    st.lists(st.one_of(st.text(max_size=50), st.binary(max_size=50)), max_size=40),
    st.floats(0, 1),
    st.integers(1, 200),
)
def test_whatever_is_accepted_arrives_once_in_order(
    messages: list[str | bytes], latency: float, window: int
) -> None:
    async def main() -> list[str | bytes]:
        here, there = memory_link(latency=latency, window_bytes=window)
        for message in messages:
            assert here.send_nowait(message)
        return [await there.receive() for _ in messages]

    assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)) == messages
