"""The emulated conversation: its items, and for each spoken one which word lies where in its audio."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, Literal

import attrs
import numpy as np

from callrt.testing.model_vad import BYTES_PER_MS, Samples, from_mulaw

Voice = Callable[[str], bytes]
"""Says a text: mu-law at 8 kHz. It is asked for one phrase at a time, see :func:`speak`."""


@attrs.frozen
class Word:
    """One word and the stretch of its item's audio that says it, in milliseconds."""

    text: str
    start_ms: int
    end_ms: int


@attrs.define(eq=False)
class Item:
    """An item of the conversation, as the service holds it."""

    id: str
    kind: Literal["message", "function_call", "function_call_output"]
    role: str = ""
    status: str = "completed"
    content: list[dict[str, Any]] = attrs.field(factory=list)
    """GA form, without audio bytes."""
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    output: str = ""

    form: str = "audio/pcmu"
    audio: bytearray = attrs.field(factory=bytearray)
    """Spoken items: every byte sent to the client, in ``form``."""
    words: tuple[Word, ...] = ()
    """Spoken items: the whole line as planned; how much of it was sent, ``sent_ms`` says."""
    said: list[str] = attrs.field(factory=list)
    """Transcript deltas sent."""
    truncated_ms: int | None = None
    caller_audio: Samples = attrs.field(factory=lambda: np.zeros(0, np.int16))
    understood: str = ""
    """Callers' audio: what the model made of it, whether or not a transcript was ever sent."""

    @property
    def sent_ms(self) -> int:
        return len(self.audio) // BYTES_PER_MS[self.form]

    @property
    def is_spoken(self) -> bool:
        """Does it hold assistant audio made in this session?"""
        return self.role == "assistant" and any(part["type"] == "output_audio" for part in self.content)

    def words_until(self, heard_ms: int) -> str:
        """The words whose audio lies, by more than half, before ``heard_ms``."""
        return " ".join(word.text for word in self.words if (word.start_ms + word.end_ms) / 2 <= heard_ms)

    def as_json(self, *, with_audio: bool = False) -> dict[str, Any]:
        item: dict[str, Any] = {
            "id": self.id,
            "object": "realtime.item",
            "type": self.kind,
            "status": self.status,
        }
        if self.kind == "message":
            item["role"] = self.role
            item["content"] = [dict(part) for part in self.content]
            if with_audio:
                for part in item["content"]:
                    if part["type"] == "output_audio":
                        part["audio"] = base64.b64encode(self.audio).decode()
                    elif part["type"] == "input_audio":
                        part["audio"] = base64.b64encode(self.caller_audio.astype("<i2").tobytes()).decode()
        elif self.kind == "function_call":
            item |= {"call_id": self.call_id, "name": self.name, "arguments": self.arguments}
        else:
            item |= {"call_id": self.call_id, "output": self.output}
        return item

    def as_known(self) -> dict[str, Any]:
        """As the model knows it: callers' audio understood, its own speech cut to what the client left of
        it."""
        item = self.as_json()
        if self.is_spoken:
            until = self.sent_ms if self.truncated_ms is None else self.truncated_ms
            item["content"] = [{"type": "output_audio", "transcript": self.words_until(until)}]
        elif self.kind == "message":
            for part in item["content"]:
                if part["type"] == "input_audio":
                    part["transcript"] = self.understood or part.get("transcript") or ""
        return item

    def tokens(self) -> tuple[int, int]:
        """(text, audio) tokens by the vendor's rule: callers 1 per 100 ms, the assistant 1 per 50 ms."""
        audio = len(self.caller_audio) // 800
        if self.is_spoken:
            audio += (self.sent_ms if self.truncated_ms is None else self.truncated_ms) // 50
        written = self.arguments + self.output + "".join(part.get("text") or "" for part in self.content)
        return (len(written) + 3) // 4, audio


@attrs.define(eq=False)
class Conversation:
    """Items in order. Bound: ``limit`` items, beyond which the oldest goes, as the service's truncation
    would."""

    limit: int = 10_000
    items: list[Item] = attrs.field(factory=list)
    dropped: int = 0

    def find(self, item_id: str) -> Item | None:
        return next((item for item in reversed(self.items) if item.id == item_id), None)

    def previous_of(self, item: Item) -> str | None:
        at = self.items.index(item)
        return self.items[at - 1].id if at else None

    def add(self, item: Item, after: str | None = None) -> None:
        """Append, or put it behind ``after`` ("root": in front of all)."""
        if after is None:
            self.items.append(item)
        elif after == "root":
            self.items.insert(0, item)
        else:
            at = next(index for index, each in enumerate(self.items) if each.id == after)
            self.items.insert(at + 1, item)
        if len(self.items) > self.limit:
            del self.items[0]
            self.dropped += 1

    def remove(self, item: Item) -> None:
        self.items.remove(item)

    def knows_call(self, call_id: str) -> bool:
        return any(item.kind == "function_call" and item.call_id == call_id for item in self.items)


def speak(text: str, voice: Voice, form: str) -> tuple[bytes, tuple[Word, ...]]:
    """``text`` said word by word in ``form``, and where each word lies: exact, because each is its own clip.

    A voice with a method ``timed(text) -> (audio, ends)``, the end of each word in milliseconds, is asked for
    the whole text at once and keeps its melody.
    """
    words = text.split()
    if (timed := getattr(voice, "timed", None)) is not None:
        audio, ends = timed(text)
        return from_mulaw(audio, form), _words(words, ends)
    clips: list[bytes] = []
    ends_ms: list[int] = []
    total = 0
    for word in words:
        clip = voice(word)
        clips.append(clip + _BREATH[: len(_BREATH) - len(clip) % 160])  # whole frames, so whole milliseconds
        total += len(clips[-1])
        ends_ms.append(total // 8)
    return from_mulaw(b"".join(clips), form), _words(words, ends_ms)


_BREATH = b"\xff" * 320
"""Up to 40 ms of mu-law silence behind each word."""


def _words(texts: Sequence[str], ends_ms: Sequence[int]) -> tuple[Word, ...]:
    assert len(texts) == len(ends_ms), "a voice must time every word of its text"
    starts = [0, *ends_ms[:-1]]
    return tuple(Word(text, start, end) for text, start, end in zip(texts, starts, ends_ms, strict=True))
