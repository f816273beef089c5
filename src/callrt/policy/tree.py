"""One call's supervision tree, as data (``actors/call.py`` builds it).

::

    call            one_for_one
     ├ journal      permanent
     ├ tools        permanent; each tool below it temporary
     └ talk         rest_for_one, transient, significant
         ├ playback   the mouth: what was heard; sole writer to the caller
         ├ model      rebuilt from what was heard
         └ carrier    the ear: sole reader of the caller's socket; transient, significant

A dead model restarts while the mouth goes on speaking. A dead playback takes the model with it, because the
model's belief must follow what was heard. A dead journal restarts alone. A hang-up ends the carrier actor in
good order, and that folds the tree. A recorder, where the agent's calls are recorded, stands beside the tree under
a supervisor of its own: it outlives the tree by the last words.
"""

from __future__ import annotations

from typing import Literal

import attrs

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]


@attrs.frozen
class Budget:
    """At most ``restarts`` within ``seconds``; one more ends this part of the tree."""

    restarts: int
    seconds: float


@attrs.frozen
class Branch:
    name: str
    strategy: Strategy
    budget: Budget
    children: tuple[str, ...]


CALL = Branch("call", "one_for_one", Budget(3, 30.0), ("journal", "tools", "talk"))

TALK = Branch("talk", "rest_for_one", Budget(15, 60.0), ("playback", "model", "carrier"))
"""The budget is wider than the longest ladder of reconnects (20 s at 0.5 s doubling to 8 s is seven)."""

RECORDING = Budget(3, 30.0)

SHUTDOWN_SECONDS = 2.0
"""For one actor to end: nothing in them waits for a network when it is told to stop."""
