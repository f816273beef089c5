"""The tools that a model session waits for: each call is answered once, by whichever session is there then."""

from __future__ import annotations

from collections.abc import Iterable


class ToolCalls:
    """True while an output is still to come."""

    def __init__(self) -> None:
        self._open: dict[str, None] = {}
        self._seen: dict[str, None] = {}
        self._early: dict[str, tuple[str, bool]] = {}

    def __bool__(self) -> bool:
        return bool(self._open)

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._open

    def take_over(self, call_ids: Iterable[str]) -> None:
        """An earlier session asked for these."""
        self._open.update(dict.fromkeys(call_ids))

    def ask(self, call_id: str) -> bool:
        """The model calls a tool; False: it has called with this id before."""
        if call_id in self._seen:
            return False
        self._seen[call_id] = None
        self._open[call_id] = None
        return True

    def hold(self, call_id: str, output: str, reply: bool) -> None:
        """Done before the session was live."""
        self._early[call_id] = (output, reply)

    def release(self) -> tuple[list[tuple[str, str]], bool]:
        """What was held, as (call id, output); and whether one of them wants a reply."""
        held, self._early = self._early, {}
        for call_id in held:
            self.settle(call_id)
        return [(call_id, output) for call_id, (output, _) in held.items()], any(r for _, r in held.values())

    def settle(self, call_id: str) -> None:
        del self._open[call_id]
