"""Ctrl-C in a real process: it may land anywhere, and still everything stops in order."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest

PRELUDE = """
import os, signal, sys, threading, time
import trio
from callrt.supervision import ChildSpec, Supervisor

# A shell's background job inherits that Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupt_after(seconds):
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()

def child(id, cleanup=0.05, work=trio.sleep_forever, shutdown=5.0):
    async def start(ctx, *, task_status):
        task_status.started()
        try:
            await work()
        finally:
            with ctx.cleanup():
                await trio.sleep(cleanup)
                print("down", id, flush=True)
    return ChildSpec(id, start, shutdown=shutdown)

def run(main):
    try:
        trio.run(main)
    except KeyboardInterrupt:
        print("interrupted")
"""


def play(program: str) -> tuple[list[str], float]:
    began = time.monotonic()
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines(), time.monotonic() - began


def test_interrupt_of_a_root_that_is_the_main_task_stops_in_order() -> None:
    lines, _ = play(
        """
        inner = Supervisor([child("x"), child("y")])
        interrupt_after(0.3)
        run(Supervisor([child("a"), ChildSpec("in", inner.run, kind="supervisor"), child("b")]).run)
        """
    )
    assert lines == ["down b", "down y", "down x", "down a", "interrupted"]


def test_interrupt_inside_a_busy_child_stops_in_order() -> None:
    lines, _ = play(
        """
        async def busy():
            await trio.sleep(0.2)
            interrupt_after(0.2)
            end = time.monotonic() + 20
            while time.monotonic() < end:
                pass
        run(Supervisor([child("a"), child("b", work=busy), child("c")]).run)
        """
    )
    assert lines == ["down b", "down c", "down a", "interrupted"]


def test_second_interrupt_cuts_the_clean_ups_short() -> None:
    lines, seconds = play(
        """
        interrupt_after(0.3)
        interrupt_after(0.8)
        run(Supervisor([child("a", cleanup=30.0, shutdown=60), child("b", cleanup=30.0, shutdown=60)]).run)
        """
    )
    assert lines == ["interrupted"]
    assert seconds < 15


@pytest.mark.parametrize("how", ["tell", "ask", "call"])
def test_references_outlive_the_loop_without_harm(how: str) -> None:
    lines, _ = play(
        f"""
        HOW = {how!r}
        sup = Supervisor([child("a")])
        async def main():
            async with trio.open_nursery() as nursery:
                await nursery.start(sup.run)
                sup.stop()
        run(main)
        if HOW == "tell":
            print(sup.ref("a").tell("anybody there?"), sup.ref("a").statistics().dead)
        else:
            async def later():
                try:
                    if HOW == "ask":
                        await sup.ref("a").ask(lambda reply_to: reply_to, 1.0)
                    else:
                        await sup.terminate_child("a")
                except Exception as error:
                    print(type(error).__name__)
            trio.run(later)
        """
    )
    assert lines[0] == "down a"
    assert lines[1] == {"tell": "False 1", "ask": "TargetDown", "call": "SupervisorDown"}[how]
