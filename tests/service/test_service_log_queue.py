"""Log lines that nobody reads: they hold up nobody, have a bound, and are told and counted."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest

from callrt.service.log_queue import LINES_MAX, QueueHandler, dropped_lines, write_to
from callrt.service.metrics import Metrics


class Pipe:
    """Takes lines while it is open, but for the next ``broken``; ``full`` when one waits in front of it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.open = threading.Event()
        self.full = threading.Event()
        self.broken = 0

    def write(self, line: str) -> None:
        if self.broken:
            self.broken -= 1
            raise BrokenPipeError
        self.full.set()
        assert self.open.wait(20)
        self.lines.append(line.removesuffix("\n"))


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


@pytest.fixture
def handler(pipe: Pipe) -> Iterator[QueueHandler]:
    handler = QueueHandler(pipe.write)
    handler.setFormatter(logging.Formatter("%(message)s %(count)s", defaults={"count": ""}))
    yield handler
    pipe.open.set()
    handler.flush()
    handler.close()


def say(handler: QueueHandler, words: object) -> None:
    handler.handle(logging.LogRecord("callrt.test", logging.INFO, "f", 1, str(words), None, None))


def test_lines_come_in_order_and_are_all_written_after_a_flush(pipe: Pipe, handler: QueueHandler) -> None:
    pipe.open.set()
    for number in range(LINES_MAX // 2):
        say(handler, number)
    handler.flush()
    assert pipe.lines == [f"{number} " for number in range(LINES_MAX // 2)]


def test_unread_lines_block_nobody_and_those_over_the_bound_are_told_in_their_place(
    pipe: Pipe, handler: QueueHandler
) -> None:
    say(handler, "first")
    assert pipe.full.wait(20)
    for number in range(LINES_MAX + 5):
        say(handler, number)
    assert handler.dropped == 5
    pipe.open.set()
    handler.flush()
    say(handler, "after")
    handler.flush()
    kept = [f"{number} " for number in range(LINES_MAX)]
    assert pipe.lines == ["first ", *kept, "log lines dropped 5", "after "]
    assert handler.dropped == 5


def test_flush_has_a_bound(pipe: Pipe, handler: QueueHandler) -> None:
    say(handler, "unread")
    handler.flush()
    assert pipe.lines == []


def test_line_that_cannot_be_written_costs_itself_and_is_told(pipe: Pipe, handler: QueueHandler) -> None:
    pipe.open.set()
    pipe.broken = 1
    say(handler, "lost")
    handler.flush()
    say(handler, "after")
    handler.flush()
    assert pipe.lines == ["log lines dropped 1", "after "]


def test_dropped_lines_are_a_metric(pipe: Pipe, handler: QueueHandler) -> None:
    logging.getLogger().addHandler(handler)
    try:
        name = "callrt_log_lines_dropped_total"
        assert Metrics().registry.get_sample_value(name) == dropped_lines() == 0
        say(handler, "first")
        assert pipe.full.wait(20)
        for number in range(LINES_MAX + 2):
            say(handler, number)
        assert Metrics().registry.get_sample_value(name) == 2
        assert "callrt_log_lines_dropped_total 2.0" in Metrics().exposition().decode()
    finally:
        logging.getLogger().removeHandler(handler)


def test_pipe_that_another_process_made_non_blocking_gets_every_byte() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    text = "x" * 300_000
    with open(reader, "rb") as end, open(writer, "w") as stream:
        thread = threading.Thread(target=write_to(stream), args=(text,), daemon=True)
        thread.start()
        assert end.read(len(text)) == text.encode()
        thread.join(20)


@pytest.mark.parametrize(("end", "status"), [("sys.exit(3)", 3), ("1 / 0", 1), ("end_process(4)", 4)])
def test_end_of_the_process_loses_no_line(end: str, status: int) -> None:
    program = f"""
    import logging, sys
    from callrt.service.log import configure_logging
    from callrt.service.running import end_process
    configure_logging([])
    for number in range(500):
        logging.info("line", extra={{"count": number}})
    {end}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status
    counts = [line.rpartition("count=")[2] for line in done.stderr.splitlines() if "count=" in line]
    assert counts == [str(number) for number in range(500)]


def test_output_that_nobody_reads_does_not_keep_a_process_whose_service_is_over() -> None:
    program = """
    import sys, threading
    from callrt.service.running import leave
    threading.Thread(target=print, args=("x" * 1_000_000,), daemon=True).start()
    sys.stdin.read()
    leave(0)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.read(1) == b"x"
            process.stdin.close()
            assert process.wait(20) == 0
        finally:
            process.kill()
