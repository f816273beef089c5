"""``callrt calls``, as it is typed."""

from __future__ import annotations

import argparse
import json
import sqlite3
from pathlib import Path

import pytest

from callrt.cli import calls
from callrt.journal import SqliteStore
from callrt.journal.record import encode_record
from callrt.journal.store import Append
from callrt.protocol.records import (
    ActorRestarted,
    AgentSaid,
    CallAccepted,
    CallEnded,
    CallerSaid,
    FaultSeen,
    LinePlayed,
    Record,
    ToolFinished,
    ToolIntended,
)

STORY: list[Record] = [
    CallAccepted(carrier="twilio", agent="front-desk", caller="+15550100001", called="+15550100002"),
    AgentSaid(item_id="i1", text="Hello, this is the clinic.", heard_ms=900, interrupted=True),
    CallerSaid(item_id="i2", text="[bold]An appointment[/bold], please \x1b[31m"),
    FaultSeen(fault="model_closed", turn="agent_speaking", detail="1006"),
    LinePlayed(line="one_moment"),
    ActorRestarted(actor="model", reason="closed"),
    ToolIntended(call_id="t1", name="book_appointment", arguments="{}", idempotency_key="k"),
    ToolFinished(call_id="t1", status="ok", output="done"),
    CallEnded(outcome="completed"),
]


def write(folder: Path, call_sid: str, records: list[Record], start: float = 1_700_000_000.0) -> None:
    store = SqliteStore(folder / "calls.db")
    kinds = [str(type(record).__struct_config__.tag) for record in records]
    store.commit(
        [
            Append(call_sid, start + number, kind, encode_record(record))
            for number, (kind, record) in enumerate(zip(kinds, records, strict=True))
        ]
    )
    store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "callrt.toml").write_text('[journal]\nurl = "sqlite:///calls.db"\n')
    return tmp_path


def callrt(folder: Path, *words: str) -> int:
    parser = argparse.ArgumentParser()
    calls.add_parser(parser.add_subparsers())
    args = parser.parse_args(["calls", *words, "--config", str(folder / "callrt.toml")])
    status = args.run(args)
    assert isinstance(status, int)
    return status


def test_show_json_prints_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, "CA1", STORY)
    assert callrt(folder, "show", "CA1", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["call_sid"], told["outcome"], told["started_at"]) == (
        "CA1",
        "completed",
        "2023-11-14T22:13:20.000Z",
    )
    assert [line["role"] for line in told["transcript"]] == ["agent", "caller"]


def test_show_tells_the_call_in_order_of_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, "CA1", STORY)
    assert callrt(folder, "show", "CA1") == 0
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "CA1 · front-desk · completed"
    assert lines[1] == "+15550100001 called +15550100002 over twilio"
    assert lines[2] == "2023-11-14 22:13:20 UTC, 0:08"
    assert lines[4:] == [
        "0:01.0 agent Hello, this is the clinic. [interrupted]",
        "0:02.0 caller [bold]An appointment[/bold], please [31m",
        "0:03.0 fault model_closed (agent_speaking): 1006",
        "0:04.0 line one_moment",
        "0:05.0 restart model: closed",
        "0:06.0 tool book_appointment (t1) started",
        "0:07.0 tool book_appointment (t1) ok",
        "0:08.0 end completed",
    ]


def test_show_has_no_colours_and_no_control_characters_outside_a_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "CA1", STORY)
    callrt(folder, "show", "CA1")
    callrt(folder, "list")
    assert "\x1b" not in capsys.readouterr().out


def test_show_of_an_unknown_call_is_one_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, "CA1", STORY)
    for call_sid in ("CA2", "CAé", "CA\udcff"):
        assert callrt(folder, "show", call_sid) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("callrt: There is no call CA")
        assert err.count("\n") == 1


def test_show_says_what_cannot_be_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, "CA1", STORY)
    database = sqlite3.connect(folder / "calls.db")
    database.execute("UPDATE entries SET sealed = x'00' WHERE number = 2")
    database.commit()
    assert callrt(folder, "show", "CA1", "--json") == 0
    out, err = capsys.readouterr()
    assert err == "callrt: entries 2 of CA1 cannot be read and are left out\n"
    assert json.loads(out)["records"]["missing"] == 1


def test_list_is_newest_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, "CA1", STORY)
    write(folder, "CA2", STORY[:3], start=1_700_000_100.0)
    assert callrt(folder, "list") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1] == ["CA2", "2023-11-14", "22:15:00", "live", "front-desk", "live", "2", "0", "0"]
    assert rows[2] == ["CA1", "2023-11-14", "22:13:20", "0:08", "front-desk", "completed", "2", "1", "1"]


def test_list_json_is_an_array(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, "CA1", STORY)
    write(folder, "CA2", STORY[:3], start=1_700_000_100.0)
    assert callrt(folder, "list", "--json", "--live") == 0
    assert [call["call_sid"] for call in json.loads(capsys.readouterr().out)] == ["CA2"]
    assert callrt(folder, "list", "--json", "--limit", "1") == 0
    assert [call["call_sid"] for call in json.loads(capsys.readouterr().out)] == ["CA2"]


def test_calls_read_while_the_service_writes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, "CA1", STORY)
    service = sqlite3.connect(folder / "calls.db", isolation_level=None)
    service.execute("BEGIN IMMEDIATE")
    service.execute("DELETE FROM entries")
    assert callrt(folder, "show", "CA1") == 0
    assert callrt(folder, "list") == 0


def test_missing_journal_is_one_sentence_and_is_not_made(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("list",), ("show", "CA1")):
        assert callrt(folder, *words) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "There is no journal at" in err
    assert not (folder / "calls.db").exists()


def test_broken_journal_is_one_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "calls.db").write_bytes(b"scrambled" * 1000)
    for words in (("list",), ("show", "CA1")):
        assert callrt(folder, *words) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "cannot be read: file is not a database" in err


def test_missing_configuration_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert callrt(tmp_path, "list") == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("limit", ["0", "-1", "many", "9" * 25, "9" * 5000])
def test_limit_that_is_none_is_exit_2(folder: Path, limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        callrt(folder, "list", f"--limit={limit}")
    assert caught.value.code == 2
    assert "must be a number from 1 to" in capsys.readouterr().err
