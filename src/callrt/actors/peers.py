"""Who else works on this journal: each process beats in it, and watches the others' beats.

No clock is compared with another's. A process lives if its count has moved lately, as seen from here; a frozen
one counts as dead until it moves again, and finds out by its leases that it has been succeeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs
import trio

from callrt.journal.errors import JournalUnavailable
from callrt.journal.store import Peer

BEAT_SECONDS = 1.0
DEAD_SECONDS = 6.0
"""Without a beat: several were missed, also on a machine that is very busy."""
FORGET_SECONDS = 600.0


class PeerJournal(Protocol):
    @property
    def process(self) -> str: ...

    async def beat(self, *, serving: bool, forget: tuple[str, ...] = ()) -> None: ...

    async def peers(self) -> Sequence[Peer]: ...


@attrs.define
class _Seen:
    beats: int
    moved_at: float
    serving: bool
    moved: bool = False
    """Its count has changed while we watched: it is surely there."""


@attrs.define(eq=False)
class Peers:
    """``serving``: this process takes calls; set False when it leaves."""

    journal: PeerJournal
    serving: bool = True
    _seen: dict[str, _Seen] = attrs.field(factory=dict)
    _watching_since: float | None = None

    async def run(self) -> None:
        """Beat and watch until cancelled."""
        while True:
            await self.turn()
            await trio.sleep(BEAT_SECONDS)

    async def turn(self) -> None:
        """One beat. A journal that takes none leaves everything as it was seen last."""
        now = trio.current_time()
        old = tuple(name for name, seen in self._seen.items() if now - seen.moved_at > FORGET_SECONDS)
        try:
            await self.journal.beat(serving=self.serving, forget=old)
            peers = await self.journal.peers()
        except JournalUnavailable:
            return
        now = trio.current_time()
        if self._watching_since is None:
            self._watching_since = now
        present = {peer.name for peer in peers}
        for name in [name for name in self._seen if name not in present]:
            del self._seen[name]
        for peer in peers:
            if peer.name == self.journal.process:
                continue
            seen = self._seen.setdefault(peer.name, _Seen(peer.beats, now, peer.serving))
            seen.serving = peer.serving
            if seen.beats != peer.beats:
                seen.beats, seen.moved_at, seen.moved = peer.beats, now, True

    def lives(self, name: str, within: float = DEAD_SECONDS) -> bool:
        """Has it moved in these last seconds? In doubt it has: nothing is known before others were watched for so
        long."""
        now = trio.current_time()
        seen = self._seen.get(name)
        if seen is None:
            return self._watching_since is None or now - self._watching_since < within
        return now - seen.moved_at < within

    @property
    def successor(self) -> bool:
        """Is there another process that surely lives and takes calls?"""
        now = trio.current_time()
        return any(s.serving and s.moved and now - s.moved_at < DEAD_SECONDS for s in self._seen.values())
