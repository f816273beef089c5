"""Who is proven to be gone: real processes, because the kernel is what proves it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from journal_helpers import ACCEPTED, append

from callrt.journal import SqliteStore
from callrt.journal.presence import Presence
from callrt.journal.store import Beat

THERE = """
import sys
from pathlib import Path
from callrt.journal import SqliteStore, StoreFailed
from callrt.journal.store import Append, Beat

pages = int(sys.argv[2])
store = SqliteStore(Path(sys.argv[1]), pages_max=pages or None)
too_much = [Append("CA1", 1.0, "caller_said", bytes(8192 * pages))] if pages else []
try:
    store.commit([Beat("other", True), *too_much])
except StoreFailed:
    print("full", flush=True)
print("there", flush=True)
sys.stdin.read()
store.close()
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


@pytest.fixture
def other(database: Path) -> Iterator[subprocess.Popen[str]]:
    with _started(database, 0) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process
        process.kill()


def _started(database: Path, pages_max: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", THERE, str(database), str(pages_max)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_process_that_lives_is_not_gone_and_a_killed_one_is(
    database: Path, other: subprocess.Popen[str]
) -> None:
    store = SqliteStore(database)
    assert not store.is_gone("other")
    other.kill()
    other.wait()
    assert store.is_gone("other")
    assert store.is_gone("other"), "asking takes nothing away"


def test_frozen_process_is_not_gone(database: Path, other: subprocess.Popen[str]) -> None:
    other.send_signal(signal.SIGSTOP)
    assert not SqliteStore(database).is_gone("other")
    other.send_signal(signal.SIGCONT)


def test_process_that_ended_in_order_is_gone(database: Path, other: subprocess.Popen[str]) -> None:
    other.communicate("")
    assert SqliteStore(database).is_gone("other")


def test_full_disk_hides_no_end(database: Path) -> None:
    """What proves that a process lives was there before the disk was asked for room."""
    SqliteStore(database).commit([append("CA1", ACCEPTED)])
    with _started(database, 40) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "full\n"
        assert process.stdout.readline() == "there\n"
        assert not SqliteStore(database).is_gone("other")
        process.kill()
        process.wait()
    assert SqliteStore(database).is_gone("other")


def test_process_that_nobody_knows_is_not_proven_gone(database: Path) -> None:
    for name in ("unheard-of", "", "../calls", "x" * 65):
        assert not Presence(database).is_gone(name)


def test_process_does_not_prove_itself_gone(database: Path) -> None:
    presence = Presence(database)
    presence.attest("me")
    presence.attest("me")
    assert not presence.is_gone("me")
    presence.close()
    assert presence.is_gone("me")


def test_forgotten_process_leaves_no_file(database: Path, other: subprocess.Popen[str]) -> None:
    store = SqliteStore(database)
    store.commit([Beat("me", True, forget=("other",))])
    assert not store.is_gone("other")
    other.kill()
    other.wait()
    assert store.is_gone("other"), "one that lives was not forgotten"
    store.commit([Beat("me", True, forget=("other",))])
    assert [path.name for path in database.parent.glob("*-process-*")] == ["calls.db-process-me"]
    store.close()
