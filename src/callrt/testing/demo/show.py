"""What a person sees while the call goes on: a live picture on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from callrt.policy import tree

NOTES_SHOWN = 9
WORDS_SHOWN = 22

STYLES = {
    "caller": "bold cyan",
    "agent": "bold green",
    "fault": "bold red",
    "barge_in": "magenta",
    "comfort": "yellow",
    "recovered": "green",
    "tool": "blue",
    "stream": "dim",
    "note": "dim",
    "end": "bold",
}


@attrs.frozen
class Picture:
    """The call at one moment, as far as it can be seen from outside."""

    seconds: float
    call: Mapping[str, Any] | None
    """From the admin port's ``/calls``; None when nobody answers there, or there is no call."""
    restarts: Mapping[str, int] = attrs.field(factory=dict)
    """Actor to restarts, from the journal."""
    process: int = 1
    serving: bool = True
    caller: str = ""
    """What the caller is saying."""
    agent: str = ""
    """What the caller has heard of the agent's latest line."""
    agent_speaks: bool = False


class Show(Protocol):
    def __enter__(self) -> Show: ...
    def __exit__(self, *error: object) -> None: ...
    def note(self, seconds: float, kind: str, text: str) -> None: ...
    def picture(self, picture: Picture) -> None: ...


class Lines:
    """For pipes and files: one line as something happens."""

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def note(self, seconds: float, kind: str, text: str) -> None:
        print(f"{seconds:7.2f} s  {kind:<9} {text}", flush=True)

    def picture(self, picture: Picture) -> None:
        return


class Screen:
    """For terminals. Nothing is drawn between two pictures: drawing must not delay the call."""

    def __init__(self, console: Console, title: str) -> None:
        self._title = title
        self._notes: deque[Text] = deque(maxlen=NOTES_SHOWN)
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> Screen:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def note(self, seconds: float, kind: str, text: str) -> None:
        style = STYLES.get(kind, "")
        self._notes.append(Text.assemble((f"{seconds:6.1f} s  ", "dim"), (f"{kind:<9} ", style), text))

    def picture(self, picture: Picture) -> None:
        table = Table.grid(padding=(0, 3), expand=True)
        table.add_column(width=38)
        table.add_column(ratio=1)
        table.add_row(actors(picture), _captions(picture))
        empty = [Text("")] * (NOTES_SHOWN - len(self._notes))  # the picture keeps its height
        notes = Text("\n", no_wrap=True, overflow="ellipsis").join([*self._notes, *empty])
        body = Group(table, Text(""), notes)
        clock = f"{picture.seconds:5.1f} s"
        self._live.update(Panel(body, title=self._title, subtitle=clock, border_style="dim"), refresh=True)


def actors(picture: Picture) -> Tree:
    """The call's supervision tree (``policy/tree.py``) with what is known of each actor."""
    call = picture.call
    alive = picture.serving and call is not None
    root = Tree(_node(f"call · process {picture.process}", "up" if alive else "down", 0))
    where = {tree.CALL.name: root}
    for branch in (tree.CALL, tree.TALK):
        for name in branch.children:
            state = state_of(name, call) if alive else "down"
            added = where[branch.name].add(_node(name, state, picture.restarts.get(name, 0)))
            if name == tree.TALK.name:
                where[name] = added
    return root


def state_of(actor: str, call: Mapping[str, Any] | None) -> str:
    """One actor's state in a word, from the call's view."""
    if call is None:
        return "down"
    if actor == "model":
        return "up" if call.get("model_live") else "reconnecting"
    if actor == "carrier":
        return "up" if call.get("streaming") else "waiting for the carrier"
    if actor == "tools" and call.get("tools_running"):
        return "running a tool"
    return "up"


_DOTS = {"up": "green", "down": "red"}


def _node(name: str, state: str, restarts: int) -> Text:
    dot = _DOTS.get(state, "yellow")
    text = Text.assemble(("● ", dot), (name, "bold"))
    if state != "up":
        text.append(f" {state}", dot)
    if restarts:
        text.append(f"  ↻ {restarts}", "yellow")
    return text


def _captions(picture: Picture) -> Group:
    words = picture.agent.split()
    return Group(
        _caption("caller", picture.caller, "cyan", speaks=bool(picture.caller)),
        Text(""),
        _caption("agent ", " ".join(words[-WORDS_SHOWN:]), "green", speaks=picture.agent_speaks),
    )


def _caption(who: str, words: str, style: str, *, speaks: bool) -> Text:
    return Text.assemble(
        ("▶ " if speaks else "  ", style), (who, style), "  ", (words, "" if speaks else "dim")
    )


def make_show(title: str) -> Show:
    console = Console(highlight=False)
    if console.is_terminal and sys.stdout.isatty():
        return Screen(console, title)
    return Lines()


def verdict(console: Console, rows: Sequence[tuple[str, str, str, str, bool | None]]) -> None:
    """(guarantee, title, figure, limit, held) each on a line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for heading in ("guarantee", "what", "measured", "promised"):
        table.add_column(heading, overflow="fold")
    for name, title, figure, limit, held in rows:
        word, style = ("PASS", "green") if held else ("FAIL", "bold red")
        table.add_row(Text(word, style=style), *(Text(cell) for cell in (name, title, figure, limit)))
    console.print(table)
