"""Names for actors. A lookup never gives a dead one; a name is free again before anyone learns of the death."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from .context import Context
from .errors import Fenced, SupervisionError
from .refs import ActorRef


class NameTaken(SupervisionError):
    """A living actor has this name; ``ref`` is it."""

    def __init__(self, name: Hashable, ref: ActorRef[Any]) -> None:
        super().__init__(f"name {name!r} belongs to {ref.label}")
        self.name = name
        self.ref = ref


class _Entry:
    __slots__ = ("ctx", "name", "registry")

    def __init__(self, registry: Registry, name: Hashable, ctx: Context[Any]) -> None:
        self.registry = registry
        self.name = name
        self.ctx = ctx

    def release(self) -> None:
        self.registry._release(self)


class Registry:
    """Unique names. An incarnation registers itself in its start function; its end gives the name back, and the
    next incarnation registers again: so a name always leads to a living, current one, or nowhere."""

    def __init__(self) -> None:
        self._entries: dict[Hashable, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def register(self, name: Hashable, ctx: Context[Any]) -> None:
        """Give ``name`` to the incarnation of ``ctx``. Raises :class:`NameTaken`; :class:`Fenced` for one that has
        ended or was declared unresponsive. No checkpoint."""
        if ctx.fenced or ctx.ended:
            raise Fenced(f"{'/'.join(ctx.path)}#{ctx.incarnation} may not register {name!r} any more")
        taken = self._entries.get(name)
        if taken is not None:
            raise NameTaken(name, taken.ctx.ref)
        entry = _Entry(self, name, ctx)
        self._entries[name] = entry
        ctx.own_name(entry)

    def unregister(self, name: Hashable, ctx: Context[Any]) -> bool:
        """Give the name back early. False when it is not this incarnation's. No checkpoint."""
        entry = self._entries.get(name)
        if entry is None or entry.ctx is not ctx:
            return False
        ctx.address.drop_name(entry)
        self._release(entry)
        return True

    def whereis(self, name: Hashable) -> ActorRef[Any] | None:
        """The living owner, or None. No checkpoint."""
        entry = self._entries.get(name)
        return entry.ctx.ref if entry is not None else None

    def names(self) -> tuple[Hashable, ...]:
        """All names, oldest registration first."""
        return tuple(self._entries)

    def _release(self, entry: _Entry) -> None:
        if self._entries.get(entry.name) is entry:
            del self._entries[entry.name]
