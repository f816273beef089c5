"""What a fresh model session must be told, so that the conversation goes on as if nothing had happened.

The input is the history *as heard*: what the caller said, what of the agent's words reached the caller,
which tools ran. The output is a plan of model commands, oldest first, within a token budget.
"""

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
