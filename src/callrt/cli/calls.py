"""``callrt calls list|show``: what the journal knows of each call, also while the service writes it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from rich.console import Console
from rich.table import Table
from rich.text import Text

from callrt.cli import arguments
from callrt.errors import CallrtError
from callrt.journal import SqliteStore, StoreFailed, database_path
from callrt.protocol.call import CallState, fold, to_json
from callrt.protocol.call_json import rfc3339
from callrt.service.config import load_journal_settings

LIST_DEFAULT = 20
LIST_MAX = 1_000_000

EPILOG = """examples:
  callrt calls list                      the newest 20 calls
  callrt calls list --live               those that have not ended
  callrt calls show CA0123…              one call: who said what and when, faults, restarts, outcome
  callrt calls show CA0123… --json       the same as one JSON object, for other programs
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "calls",
        help="read the journal: list calls, show one",
        description="Reads the journal, also while the service runs, and changes nothing.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="calls_verb", required=True, metavar="list|show")
    listing = verbs.add_parser("list", help="the newest calls, one line each")
    listing.add_argument("--live", action="store_true", help="only calls that have not ended")
    listing.add_argument(
        "--limit",
        type=arguments.whole(1, LIST_MAX),
        default=LIST_DEFAULT,
        metavar="N",
        help="at most N calls (default %(default)s)",
    )
    showing = verbs.add_parser("show", help="all that is known of one call")
    showing.add_argument(
        "call_sid", metavar="CALL_SID", help="as the carrier names it, and calls list shows it"
    )
    for verb in (listing, showing):
        verb.add_argument("--json", action="store_true", help="JSON on standard output")
        verb.add_argument(
            "--config", type=Path, default=Path("callrt.toml"), metavar="FILE", help="default %(default)s"
        )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status: 0; 1 for an unknown call or a journal that cannot be read; 2 for the configuration."""
    try:
        store = _store(args.config)
        if args.calls_verb == "show":
            return _show(store, args.call_sid, as_json=args.json)
        return _list(store, limit=args.limit, live_only=args.live, as_json=args.json)
    except CallrtError as error:
        print(f"callrt: {error}", file=sys.stderr)
        return error.exit_status


def _store(config: Path) -> SqliteStore:
    folder, url = load_journal_settings(config, os.environ)
    store = SqliteStore(database_path(url, folder))
    if not store.path.exists():
        raise CallrtError(
            f"There is no journal at {store.path}: no call was taken yet, or [journal] url is wrong."
        )
    return store


def _state(store: SqliteStore, call_sid: str) -> CallState:
    """The call; with an empty ``call_sid`` when the journal does not have it."""
    if not call_sid.isascii():  # no carrier's
        return CallState()
    try:
        reading = store.read_call(call_sid)
    except StoreFailed as error:
        raise _unreadable(store, error) from error
    if reading.corrupt:
        numbers = ", ".join(str(error.number) for error in reading.corrupt)
        print(f"callrt: entries {numbers} of {call_sid} cannot be read and are left out", file=sys.stderr)
    state = fold(reading.entries)
    if reading.corrupt and not state.call_sid:
        state = replace(state, call_sid=call_sid, missing=len(reading.corrupt))
    return state


def _unreadable(store: SqliteStore, error: StoreFailed) -> CallrtError:
    return CallrtError(f"The journal {store.path} cannot be read: {error.reason}.")


# ---- list


def _list(store: SqliteStore, *, limit: int, live_only: bool, as_json: bool) -> int:
    try:
        call_sids = store.list_calls(limit=limit, live_only=live_only)
    except StoreFailed as error:
        raise _unreadable(store, error) from error
    states = [_state(store, call_sid) for call_sid in call_sids]
    if as_json:
        _print_json([_summary(state) for state in states])
        return 0
    if not states:
        print("No live calls." if live_only else "No calls.")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("call", "started (UTC)", "lasted", "agent", "outcome", "turns", "faults", "restarts"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in _NUMBERS else "left")
    for state in states:
        table.add_row(
            _plain(state.call_sid),
            _plain(_moment(state.started_at)),
            _lasted(state),
            _plain(state.agent),
            _outcome(state),
            str(sum(line.told for line in state.lines)),
            str(len(state.faults)),
            str(len(state.restarts)),
        )
    _console().print(table)
    return 0


_NUMBERS = ("lasted", "turns", "faults", "restarts")


def _summary(state: CallState) -> dict[str, Any]:
    whole = to_json(state)
    keys = ("call_sid", "agent", "carrier", "state", "outcome", "started_at", "ended_at")
    return {key: whole[key] for key in keys}


# ---- show


def _show(store: SqliteStore, call_sid: str, *, as_json: bool) -> int:
    state = _state(store, call_sid)
    if not state.call_sid:
        name = call_sid.encode("ascii", "backslashreplace").decode()
        raise CallrtError(f"There is no call {name} in {store.path}; see callrt calls list.")
    if as_json:
        _print_json(to_json(state))
        return 0
    console = _console()
    head = Text.assemble((_printable(state.call_sid), "bold"), " · ", _printable(state.agent), " · ")
    console.print(head + _outcome(state))
    if state.caller or state.called:
        console.print(_plain(f"{state.caller} called {state.called} over {state.carrier}"))
    console.print(_plain(f"{_moment(state.started_at)} UTC, {_lasted(state)}"))
    console.print()
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True, style="dim")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    start = state.started_at or 0.0
    # Sorted by time, and as found where times are equal.
    for at, who, what, style in sorted(_story(state), key=lambda event: event[0]):
        table.add_row(_offset(at - start), Text(who, style=style), Text(_printable(what), style=style))
    console.print(table)
    if state.missing or state.unknown:
        console.print()
        note = f"{state.missing} entries are missing, {state.unknown} are of a newer version"
        console.print(_plain(note))
    return 0


Event = tuple[float, str, str, str]
"""When, who, what, style."""


def _story(state: CallState) -> Iterator[Event]:
    for part in state.streams:
        yield part.attached_at, "stream", f"{part.stream_sid} attached ({part.generation})", "cyan"
        if part.detached_at is not None:
            yield part.detached_at, "stream", f"{part.stream_sid} detached: {part.reason}", "cyan"
    for session in state.model_sessions:
        yield session.opened_at, "model", f"session {session.number} opened", "cyan"
        if session.ended_at is not None:
            yield session.ended_at, "model", f"session {session.number} ended: {session.reason}", "cyan"
    for line in state.lines:
        if line.told:
            note = " [interrupted]" if line.interrupted else ""
            yield line.at, line.role, line.text + note, "bold" if line.role == "agent" else ""
    for tool in state.tools:
        yield tool.started_at, "tool", f"{tool.name} ({tool.call_id}) started", "magenta"
        if tool.ended_at is not None:
            yield tool.ended_at, "tool", f"{tool.name} ({tool.call_id}) {tool.status}", "magenta"
        elif state.state == "ended":
            yield tool.started_at, "tool", f"{tool.name} ({tool.call_id}) end unknown", "magenta"
    for fault in state.faults:
        detail = f": {fault.detail}" if fault.detail else ""
        yield fault.at, "fault", f"{fault.fault} ({fault.turn}){detail}", "red"
    for restart in state.restarts:
        yield restart.at, "restart", f"{restart.actor}: {restart.reason}", "yellow"
    for played in state.lines_played:
        yield played.at, "line", played.line, "blue"
    if state.ended_at is not None:
        end = str(state.outcome)
        if state.transfer is not None:
            end += f" (to {state.transfer.to}{', ' + state.transfer_failed if state.transfer_failed else ''})"
        yield state.ended_at, "end", end, "bold"


# ---- words and numbers


def _console() -> Console:
    """Colours only on a terminal; elsewhere lines are as long as they are."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=10_000, no_color=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _printable(text: str) -> str:
    """Without control characters, which a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in text)


def _plain(text: str) -> Text:
    """As it is: no markup in it means anything."""
    return Text(_printable(text))


def _moment(at: float | None) -> str:
    written = rfc3339(at)
    return "?" if written is None else written.partition(".")[0].replace("T", " ")


def _lasted(state: CallState) -> str:
    if state.started_at is None or state.ended_at is None:
        return "live"
    seconds = max(0, round(state.ended_at - state.started_at))
    return f"{seconds // 60}:{seconds % 60:02d}"


def _offset(seconds: float) -> str:
    tenths = max(0, round(seconds * 10))
    return f"{tenths // 600}:{tenths % 600 // 10:02d}.{tenths % 10}"


def _outcome(state: CallState) -> Text:
    if state.outcome is None:
        return Text("live", style="green")
    good = state.outcome in ("completed", "caller_hung_up", "transferred")
    return Text(_printable(state.outcome), style="" if good else "red")
