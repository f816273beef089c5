"""A supervisor of many children of a kind that come and go: calls, tools, connections."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable
from typing import NoReturn

import trio

from .errors import InvalidOperation, SpecError
from .reports import Hook
from .spec import AutoShutdown
from .supervisor import SupervisorBase


class DynamicSupervisor(SupervisorBase):
    """Starts with no children; they are added by :meth:`start_child` and forgotten when they end for good.

    Each is restarted alone. At a stop all are told at once: it takes as long as the slowest, not their sum.
    """

    def __init__(
        self,
        *,
        max_restarts: int = 3,
        period: float = 5.0,
        max_children: int | None = None,
        auto_shutdown: AutoShutdown = "never",
        name: str = "root",
        rng: random.Random | None = None,
        reports: Hook | Iterable[Hook] = (),
    ) -> None:
        """``max_children``: further starts are refused (children that wait for a restart count as well)."""
        if max_children is not None and (
            isinstance(max_children, bool) or not isinstance(max_children, int) or max_children < 0
        ):
            raise SpecError("max_children", f"must be None or an integer >= 0, not {max_children!r}")
        super().__init__(
            (),
            strategy="dynamic",
            max_restarts=max_restarts,
            period=period,
            auto_shutdown=auto_shutdown,
            max_children=max_children,
            name=name,
            rng=rng,
            reports=reports,
        )

    async def restart_child(self, id: Hashable) -> NoReturn:
        """Not for dynamic supervisors: raises :class:`InvalidOperation`."""
        await trio.lowlevel.checkpoint()
        raise InvalidOperation(id, "a dynamic supervisor keeps no stopped children to restart")

    async def delete_child(self, id: Hashable) -> NoReturn:
        """Not for dynamic supervisors: raises :class:`InvalidOperation`."""
        await trio.lowlevel.checkpoint()
        raise InvalidOperation(id, "a dynamic supervisor keeps no stopped children to delete")
