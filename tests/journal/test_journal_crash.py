"""Real processes: killed in the middle, or fighting for one call."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from callrt.journal import Journal, SqliteStore
from callrt.protocol.call import CallState, fold
from callrt.protocol.records import AgentSaid, AnyRecord, ToolFinished, ToolIntended

PROCESS = Path(__file__).with_name("journal_process.py")
CALLS = ("CA1", "CA2", "CA3")
LOSS_SECONDS = 0.25


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROCESS), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_after(path: Path, seconds: float) -> tuple[list[list[str]], float]:
    """What a writer, killed so long after its first word, had said; and when it was killed."""
    process = start("talk", path, *CALLS)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    killed_at = time.time()
    process.send_signal(signal.SIGKILL)
    # A last line may be torn: it was not said.
    whole = [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    process.stdout.close()
    process.wait(10)
    return [line.split() for line in whole], killed_at


@pytest.mark.parametrize("seed", range(6))
def test_kill_9_costs_nothing_that_was_acknowledged(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    said, killed_at = kill_after(path, random.Random(seed).uniform(0.05, 0.9))
    store = SqliteStore(path)
    for call_sid in CALLS:
        reading = store.read_call(call_sid)
        assert reading.corrupt == ()
        assert [entry.number for entry in reading.entries] == list(range(1, len(reading.entries) + 1))
        records = [entry.record for entry in reading.entries]
        intended = {record.call_id for record in records if isinstance(record, ToolIntended)}
        finished = {record.call_id for record in records if isinstance(record, ToolFinished)}
        spoken = {record.item_id for record in records if isinstance(record, AgentSaid)}
        acknowledged = [words for words in said if words[1:2] == [call_sid]]
        for verb, _, what, *rest in acknowledged:
            if verb == "intended":
                assert what in intended
            elif verb == "finished":
                assert what in finished
            elif verb == "said" and float(rest[0]) < killed_at - LOSS_SECONDS:
                assert what in spoken
        assert finished <= intended, "no end without its intent"
        if any(words[0] == "attached" for words in acknowledged):
            assert store.read_leases([call_sid])[call_sid].epoch == 1


def test_kill_9_spares_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    process = start("kinds", path)
    assert process.stdout is not None
    for line in process.stdout:
        if line == "waited\n":
            process.send_signal(signal.SIGKILL)
    process.stdout.close()
    process.wait(10)
    store = SqliteStore(path)
    assert [type(entry.record) for entry in store.read_call("CA1").entries] == list(AnyRecord.__args__)
    assert len(store.read_call("CA2").entries) == 1, "write-behind, 250 ms before the kill"


async def test_kill_9_leaves_a_journal_that_the_next_process_takes_up(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    await trio.to_thread.run_sync(kill_after, path, 0.5)
    journal = Journal(SqliteStore(path), now=time.time)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run, None)
        live = await journal.live_calls()
        assert sorted(state.call_sid for state in live) == list(CALLS)
        assert await journal.attach("CA1", "MZ2", 2) == 2
        state = await journal.read("CA1")
        assert isinstance(state, CallState)
        assert [part.reason for part in state.streams] == ["lost", None]
        nursery.cancel_scope.cancel()
    await journal.aclose()


def test_two_processes_never_write_under_a_lost_lease(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    processes = [start("contend", path, name) for name in ("a", "b")]
    outputs = [process.communicate(timeout=60)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    epochs = [line.split()[2] for output in outputs for line in output if line.startswith("attached")]
    assert len(epochs) == len(set(epochs)), "an epoch has one holder"
    assert sum(line.startswith(("lost", "refused")) for output in outputs for line in output) > 0

    store = SqliteStore(path)
    entries = store.read_call("CA1").entries
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
    current = 0
    for entry in entries:
        if isinstance(entry.record, AgentSaid):
            assert int(entry.record.text) == current, "written by who held the lease then"
        else:
            current = fold(entries[: entry.number]).lease_epoch
    written = sum(isinstance(entry.record, AgentSaid) for entry in entries)
    assert written == sum(line.startswith("wrote") for output in outputs for line in output)
