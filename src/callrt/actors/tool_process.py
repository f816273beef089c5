"""A killable tool's process: one per run, told what to do on its stdin, answering on its stdout.

The child leads a process group of its own, so that what it started dies with it, and a Ctrl-C at the
terminal does not reach it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import msgspec
import trio

from callrt.actors.tool_runner import Job, Outcome, Progress
from callrt.protocol.tools import OUTPUT_BYTES_MAX, cut, error_output

ANSWER_BYTES_MAX = 8 * OUTPUT_BYTES_MAX
"""JSON escapes a byte into at most six."""

REAP_SECONDS_MAX = 1.0
"""After SIGKILL a process is gone at once unless the kernel holds it; then it is left to the system."""


class Order(msgspec.Struct):
    """What the child is to do."""

    folder: str
    path: str
    arguments: str
    call_sid: str
    agent: str
    caller: str
    called: str
    key: str


class Answer(msgspec.Struct):
    """What became of it."""

    output: str
    error: str = ""
    nothing: bool = False
    where: str = ""


async def run_in_process(job: Job, progress: Progress) -> Outcome:
    """If cancelled: the process group is killed; it may have happened."""
    assert job.call is not None, "a resolve runs in a thread"
    if job.tool.origin is None:
        return Outcome(
            error_output("The tool cannot be started."), "not loaded from a configuration", started=False
        )
    folder, path = job.tool.origin
    order = Order(
        str(folder),
        path,
        job.arguments,
        job.call.call_sid,
        job.call.agent,
        job.call.caller,
        job.call.called,
        job.key,
    )
    try:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "callrt.agents.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return Outcome(error_output("The tool cannot be started."), type(error).__name__, started=False)
    progress.started = True
    try:
        return await _talk(process, order)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + REAP_SECONDS_MAX):
            await process.wait()


async def _talk(process: trio.Process, order: Order) -> Outcome:
    assert process.stdin is not None, "piped"
    assert process.stdout is not None, "piped"
    answer = bytearray()
    async with process.stdin, process.stdout:
        with contextlib.suppress(trio.BrokenResourceError):  # it died at once: there is no answer to read
            await process.stdin.send_all(msgspec.json.encode(order))
            await process.stdin.aclose()
        while len(answer) <= ANSWER_BYTES_MAX:
            data = await process.stdout.receive_some(65_536)
            if not data:
                break
            answer += data
    try:
        said = msgspec.json.decode(answer, type=Answer)
    except msgspec.DecodeError:
        return Outcome(error_output("The tool ended without an answer."), "process ended")
    return Outcome(cut(said.output), said.error, said.nothing, where=said.where)
