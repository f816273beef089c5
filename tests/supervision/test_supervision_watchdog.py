"""The watchdog, with real processes and real time: it is for what no virtual clock can show."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import time

import pytest

from callrt.supervision import SpecError, Watchdog
from callrt.supervision.watchdog import EXIT_CODE

PRELUDE = """
import math, sys, time
import trio
from callrt.supervision import ChildSpec, Supervisor, Watchdog

async def idle(ctx, *, task_status):
    task_status.started()
    await trio.sleep_forever()
"""


def run(program: str) -> tuple[int, str, str, float]:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr, time.monotonic() - began


def test_loop_that_stands_still_is_reported_with_stacks_and_ended_at_the_limit() -> None:
    status, out, err, seconds = run(
        """
        async def blocks(ctx, *, task_status):
            task_status.started()
            end = time.monotonic() + 30
            while time.monotonic() < end:  # a synchronous call that does not come back
                pass

        watchdog = Watchdog(stall_seconds=0.2, kill_seconds=0.8, on_stall=lambda seconds: print("stalled", flush=True))
        sup = Supervisor([ChildSpec("watchdog", watchdog.run), ChildSpec("blocks", blocks)])
        trio.run(sup.run)
        """
    )
    assert status == EXIT_CODE
    assert seconds < 20
    assert out.splitlines() == ["stalled"]
    assert "the event loop has stood still" in err
    assert "in blocks" in err


@pytest.mark.parametrize("end", ["end_by", "stall"])
def test_unread_standard_error_does_not_keep_the_process(end: str) -> None:
    program = f"""
    async def main():
        watchdog = Watchdog(stall_seconds=0.2, kill_seconds=0.8)
        async with trio.open_nursery() as nursery:
            await nursery.start(watchdog.run)
            if {end!r} == "end_by":
                watchdog.end_by(0.2)
                await trio.sleep_forever()
            print("x" * 100, file=sys.stderr)  # blocks
    trio.run(main)
    """
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        os.set_blocking(writer, True)
        command = [sys.executable, "-c", PRELUDE + textwrap.dedent(program)]
        with subprocess.Popen(command, stderr=writer) as process:
            try:
                assert process.wait(20) == EXIT_CODE
            finally:
                process.kill()
    finally:
        os.close(reader)
        os.close(writer)


def test_report_that_hangs_is_left_and_the_next_one_left_out() -> None:
    status, out, _, _ = run(
        """
        import threading
        watchdog = Watchdog(stall_seconds=0.2, kill_seconds=20.0, on_stall=lambda seconds: threading.Event().wait())

        def stall(times):
            end = time.monotonic() + 20
            while watchdog.stalls < times and time.monotonic() < end:
                pass

        async def main():
            async with trio.open_nursery() as nursery:
                await nursery.start(watchdog.run)
                for times in (1, 2):
                    await trio.lowlevel.checkpoint()
                    stall(times)
                await trio.sleep(0.5)
                print(watchdog.stalls, watchdog.unsaid)
                nursery.cancel_scope.cancel()

        trio.run(main)
        """
    )
    assert (status, out.split()) == (0, ["2", "1"])


def test_short_stall_is_reported_once_and_survived() -> None:
    status, out, err, _ = run(
        """
        async def main():
            watchdog = Watchdog(stall_seconds=0.2, kill_seconds=20.0)
            async with trio.open_nursery() as nursery:
                await nursery.start(watchdog.run)
                await trio.sleep(0.5)
                assert watchdog.stalls == 0
                watchdog.longest_round_seconds
                end = time.monotonic() + 0.7
                while time.monotonic() < end:
                    pass
                await trio.sleep(0.3)
                print(watchdog.stalls, watchdog.longest_round_seconds > 0.6, watchdog.longest_round_seconds < 0.6)
                nursery.cancel_scope.cancel()

        trio.run(main)
        """
    )
    assert (status, out.split()) == (0, ["1", "True", "True"])
    assert "stood still" in err


@pytest.mark.parametrize("trick", ["shield", "spin"])
def test_hard_deadline_ends_a_process_whose_tasks_will_not_go(trick: str) -> None:
    status, out, err, seconds = run(
        f"""
        TRICK = {trick!r}

        async def resists(ctx, *, task_status):
            task_status.started()
            while True:
                try:
                    with trio.CancelScope(shield=TRICK == "shield"):
                        await trio.sleep_forever()
                except trio.Cancelled:
                    await_again = True

        async def main():
            watchdog = Watchdog(stall_seconds=5.0, kill_seconds=30.0)
            sup = Supervisor([ChildSpec("a", idle), ChildSpec("resists", resists, shutdown=0.2)],
                             reports=lambda report: print(type(report).__name__, report.id, flush=True))
            async with trio.open_nursery() as nursery:
                await nursery.start(watchdog.run)
                await nursery.start(sup.run)
                sup.stop()
                watchdog.end_by(1.5)
                nursery.cancel_scope.cancel()  # the armed deadline survives the watchdog's own task
        trio.run(main)
        """
    )
    assert status == EXIT_CODE
    assert 1.4 < seconds < 20
    assert out.splitlines() == ["Started a", "Started resists", "Unresponsive resists", "Exited a"]
    assert "the hard deadline of the stop has passed" in err
    assert "task root/resists" in err
    assert "in resists" in err or "resists\n" in err


def test_disarmed_deadline_lets_the_process_end_by_itself() -> None:
    status, _, err, _ = run(
        """
        async def main():
            watchdog = Watchdog()
            sup = Supervisor([ChildSpec("a", idle)])
            async with trio.open_nursery() as nursery:
                await nursery.start(watchdog.run)
                await nursery.start(sup.run)
                watchdog.end_by(0.3)
                sup.stop()
                await sup.wait_stopped()
                watchdog.disarm()
                await trio.sleep(0.6)
                nursery.cancel_scope.cancel()
        trio.run(main)
        """
    )
    assert (status, err) == (0, "")


def test_watchdog_settings_are_checked() -> None:
    with pytest.raises(SpecError, match="stall_seconds"):
        Watchdog(stall_seconds=5.0, kill_seconds=1.0)
