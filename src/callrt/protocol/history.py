"""The conversation as heard: what the caller said, what of the agent's words arrived, which tools ran."""

from __future__ import annotations

import attrs


@attrs.frozen
class SaidByCaller:
    item_id: str
    text: str
    """"" while, or because, the words are not known."""


@attrs.frozen
class SaidByAgent:
    item_id: str
    text: str
    """What was heard of it."""
    interrupted: bool = False
    """The caller cut it off: it is not to be taken up again."""
    complete: bool = False
    """All of it was heard. Neither interrupted nor complete: cut by a loss, to be taken up again."""


@attrs.frozen
class UsedTool:
    call_id: str
    name: str
    arguments: str
    """JSON as the model wrote it."""
    output: str | None
    """None: no result is known."""
    status: str
    """ok, error, timeout, unknown; "" while it runs."""


HistoryItem = SaidByCaller | SaidByAgent | UsedTool


def line_of(entry: HistoryItem, max_chars: int) -> str:
    """The entry as one line of text; "" if there is nothing to read."""
    match entry:
        case SaidByCaller(text=text):
            return f"Caller: {shorten(text, max_chars)}" if text.strip() else ""
        case SaidByAgent(text=text, interrupted=interrupted):
            cut = " (interrupted)" if interrupted else ""
            return f"Agent: {shorten(text, max_chars)}{cut}" if text.strip() else ""
        case UsedTool(name=name, status=status):
            return f"Tool {name}: {status or 'running'}"


def shorten(text: str, max_chars: int) -> str:
    """On one line, cut at a word with an ellipsis where it is longer than ``max_chars``."""
    flat = " ".join(text.split())
    if len(flat) <= max_chars:
        return flat
    if max_chars <= 1:
        return "…"[:max_chars]
    cut = flat[: max_chars - 1]
    if flat[max_chars - 1] != " " and " " in cut[max_chars // 2 :]:
        cut = cut[: cut.rindex(" ")]
    return cut.rstrip() + "…"
