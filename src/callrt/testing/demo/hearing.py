"""Which of the frames that the model made has the caller heard, and when: told from the sound alone."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from callrt.protocol.audio import FRAME_BYTES
from callrt.testing.carrier_stream import TICK_SECONDS
from callrt.testing.carrier_tape import HeardFrame, is_audible

FRAME_MS = 20


@attrs.frozen
class Place:
    """One frame of one item."""

    item: int
    frame: int


@attrs.frozen
class Spoken:
    """One item as a model session has generated it."""

    audio: bytes
    """mu-law, all that was sent."""
    text: str
    """The whole line as planned."""
    ends_ms: tuple[int, ...] = ()
    """Where each word of ``text`` ends."""
    session: int = 1
    item_id: str = ""
    complete: bool = True
    """Generated to its end."""
    truncated_ms: int | None = None
    """Where the model was told to cut it."""

    def words_until(self, ms: int) -> list[str]:
        """The words of which more than half lies before ``ms``."""
        starts = (0, *self.ends_ms[:-1])
        words = zip(self.text.split(), starts, self.ends_ms, strict=True)
        return [word for word, start, end in words if (start + end) / 2 <= ms]


class Hearing:
    """Feed it what the model makes (:meth:`learn`) and what the caller hears (:meth:`hear`), in any mixture.

    Silent frames name no place; they are counted along between audible ones. A frame that several places
    share is taken for the one that comes next.
    """

    def __init__(self) -> None:
        self.times: dict[Place, list[float]] = {}
        """When each audible frame began to be heard."""
        self.latest: Place | None = None
        """Where the ear is, or was last."""
        self.order_broken = 0
        """Audible frames that came before one already heard of the same item."""
        self._furthest: dict[int, int] = {}
        self._where: dict[bytes, list[Place]] = {}
        self._known: dict[int, int] = {}

    def learn(self, item: int, audio: bytes, *, whole: bool) -> None:
        """``audio`` is all there is so far of ``item``; ``whole``: there will be no more."""
        at = self._known.get(item, 0)
        while at + FRAME_BYTES <= len(audio) or (whole and at < len(audio)):
            frame = audio[at : at + FRAME_BYTES].ljust(FRAME_BYTES, b"\xff")
            if is_audible(frame):
                self._where.setdefault(bytes(frame), []).append(Place(item, at // FRAME_BYTES))
            at += FRAME_BYTES
        self._known[item] = at

    def hear(self, heard: HeardFrame) -> Place | None:
        """The place of an audible frame; None for silence, and for what is not the model's."""
        if heard.source != "stream":
            return None
        following = None if self.latest is None else attrs.evolve(self.latest, frame=self.latest.frame + 1)
        places = self._where.get(heard.frame) if is_audible(heard.frame) else None
        if not places:
            if following is not None and not is_audible(heard.frame):
                self.latest = following
            return None
        place = self._choose(places, following)
        if self.latest is not None and place.item == self.latest.item and place.frame < self.latest.frame:
            self.order_broken += 1
        self.times.setdefault(place, []).append(heard.at)
        self.latest = place
        self._furthest[place.item] = max(self._furthest.get(place.item, 0), place.frame + 1)
        return place

    def _choose(self, places: Sequence[Place], following: Place | None) -> Place:
        if following is not None and following in places:
            return following
        fresh = [place for place in places if place not in self.times]
        if following is not None:
            ahead = [p for p in fresh if p.item == following.item and p.frame > following.frame]
            if ahead:
                return ahead[0]
        return fresh[0] if fresh else places[-1]

    def heard_ms(self, item: int) -> int:
        """How far the ear got in ``item``: the end of its last audible frame."""
        return self._furthest.get(item, 0) * FRAME_MS

    def span(self, item: int) -> tuple[float, float] | None:
        """When ``item`` was heard, from its first audible frame to the end of its last."""
        times = [at for place, ats in self.times.items() if place.item == item for at in ats]
        return (min(times), max(times) + TICK_SECONDS) if times else None

    def audible(self, item: int) -> list[Place]:
        """All audible frames of ``item``, in order."""
        found = [place for places in self._where.values() for place in places if place.item == item]
        return sorted(found, key=lambda place: place.frame)


def listen(heard: Sequence[HeardFrame], spoken: Sequence[Spoken]) -> Hearing:
    """The whole call at once, afterwards."""
    hearing = Hearing()
    for number, item in enumerate(spoken):
        hearing.learn(number, item.audio, whole=True)
    for frame in heard:
        hearing.hear(frame)
    return hearing
