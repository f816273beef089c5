"""The journal's file is torn, locked or scrambled under a real process: it is told, and the call goes on speaking."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import trio
from crash_rig import GREETING, LAG_MAX, Rig, Visit, lacking, open_rig
from test_crash_process import ATTEMPTS, broken_conversation, broken_promises

from callrt.testing.model_brain import words_of

TORN_BYTES = 200
"""Of the log's end: within its last frame."""
STRIKE_SECONDS = 1.2
"""In mid-greeting."""
LOCKED_SECONDS = 4.0
BACK_SECONDS = 10.0
"""The journal tries again every two seconds at most."""

Trouble = Callable[[Rig, trio.Process], Awaitable[None]]


async def torn(rig: Rig, process: trio.Process) -> None:
    """As after a loss of power: the process is gone, and what it wrote last is not whole."""
    await rig.server.kill(process)
    log = rig.server.folder / "callrt.db-wal"
    size = log.stat().st_size
    assert size > TORN_BYTES
    with log.open("r+b") as file:
        file.truncate(size - TORN_BYTES)
    await rig.server.start()


async def locked(rig: Rig, process: trio.Process) -> None:
    connection = sqlite3.connect(rig.server.folder / "callrt.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    await trio.sleep(LOCKED_SECONDS)
    connection.execute("ROLLBACK")
    connection.close()
    assert process.returncode is None
    assert rig.server.log().count("event=JournalDown") == 1, "told, and told once"
    with trio.fail_after(BACK_SECONDS):
        while "event=JournalBack" not in rig.server.log():
            await trio.sleep(0.1)


REFUSED: dict[Trouble, tuple[str, ...]] = {torn: (), locked: ("book was never done: []",)}
"""Asked for while nothing can be recorded, a side effect does not happen: the model is told so."""


@pytest.mark.parametrize("trouble", [torn, locked])
async def test_call_goes_on_whatever_becomes_of_its_journal(
    trouble: Trouble, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        (folder := tmp_path / str(attempt)).mkdir()
        async with open_rig(folder, 1) as rig:
            visit = await _through(rig, trouble)
            await rig.wait_outcomes()
            assert broken_promises(rig, visit) == []
            wrong = [law for law in broken_conversation(rig, visit) if law not in REFUSED[trouble]]
            starved = rig.lag > LAG_MAX
        if not wrong:
            return
        assert starved and attempt < ATTEMPTS, wrong  # noqa: PT018
        record_property("struck_again", 1)


async def scrambled(rig: Rig, process: trio.Process) -> None:
    """Every byte of it, for good."""
    for name in ("callrt.db", "callrt.db-wal"):
        file = rig.server.folder / name
        file.write_bytes(b"\xa5" * file.stat().st_size)


async def test_scrambled_journal_is_told_and_costs_no_word(tmp_path: Path) -> None:
    async with open_rig(tmp_path, 1) as rig:
        visit = await _through(rig, scrambled, asks=())
        assert lacking(words_of(GREETING), visit.words()) == []
        assert visit.call.end_reason == "caller_hung_up"
        [process] = rig.server.processes
        assert process.returncode is None
        assert rig.server.log().count("event=JournalUnreadable") == 1, "told, and told once"
        assert "Traceback" not in rig.server.log()
        async with httpx.AsyncClient() as client:
            ready = await client.get(f"http://127.0.0.1:{rig.admin_port}/readyz")
        assert ready.status_code == 503
        assert "journal" in ready.text


async def _through(rig: Rig, trouble: Trouble, asks: tuple[tuple[str, str], ...] | None = None) -> Visit:
    process = await rig.server.start()
    visit = rig.place(0, asks=asks)
    with trio.fail_after(90):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visit.call.run)
            await visit.call.line.wait_heard_ms(int(1000 * STRIKE_SECONDS))
            await trouble(rig, process)
    return visit
