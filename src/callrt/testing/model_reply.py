"""How the emulated model gives a reply: its steps, planned ahead in time, and what they cost.

Audio comes in uneven pieces at several times real time, the words of the transcript a little ahead of it. A
plan is only a plan: a cancel, a fault or the end of the session stops it between two steps.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal

import attrs

from callrt.testing.model_brain import Answer, Spoken
from callrt.testing.model_items import Item, Voice, Word, speak
from callrt.testing.model_vad import BYTES_PER_MS

WORDS_AHEAD_MS = 500
LONG_PIECE_MS = 2000

StepKind = Literal["open", "words", "audio", "text", "arguments", "close", "finish", "fail", "incomplete"]


@attrs.frozen
class Step:
    due: float
    kind: StepKind
    item: Item | None = None
    data: str | bytes = b""


@attrs.define(eq=False)
class Reply:
    """One response while it is given."""

    id: str
    number: int
    """From 1, within the session."""
    aside: bool
    """Out of band: ``conversation: "none"``."""
    modality: Literal["audio", "text"]
    form: str
    settings: dict[str, Any]
    """``metadata``, ``max_output_tokens``, ``audio`` as ``response.created`` shows them."""
    steps: deque[Step] = attrs.field(factory=deque)
    items: list[Item] = attrs.field(factory=list)
    open_item: Item | None = None
    sent_bytes: int = 0
    status: Literal["in_progress", "completed", "cancelled", "failed", "incomplete"] = "in_progress"
    reason: str = ""
    error: dict[str, Any] | None = None
    known: Sequence[Item] = ()
    """The context it answers; for the bill."""
    request_id: str | None = None

    @property
    def sent_ms(self) -> int:
        return self.sent_bytes // BYTES_PER_MS[self.form]

    def as_json(self, conversation_id: str) -> dict[str, Any]:
        details: dict[str, Any] | None = None
        if self.status in ("cancelled", "incomplete"):
            details = {"type": self.status, "reason": self.reason}
        elif self.status == "failed":
            details = {"type": "failed", "error": self.error}
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": details,
            "output": [item.as_json() for item in self.items],
            "conversation_id": None if self.aside else conversation_id,
            "output_modalities": [self.modality],
            "usage": None if self.status == "in_progress" else self._usage(),
            **self.settings,
        }

    def _usage(self) -> dict[str, Any]:
        failed = self.status == "failed" and not self.items
        spent = [] if failed else [item.tokens() for item in self.known]
        made = [item.tokens() for item in self.items]
        text_in, audio_in = sum(text for text, _ in spent), sum(audio for _, audio in spent)
        text_out, audio_out = sum(text for text, _ in made), sum(audio for _, audio in made)
        return {
            "total_tokens": text_in + audio_in + text_out + audio_out,
            "input_tokens": text_in + audio_in,
            "output_tokens": text_out + audio_out,
            "input_token_details": {
                "text_tokens": text_in,
                "audio_tokens": audio_in,
                "image_tokens": 0,
                "cached_tokens": 0,
                "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
            },
            "output_token_details": {"text_tokens": text_out, "audio_tokens": audio_out},
        }


@attrs.frozen
class Pace:
    """How fast, and in what pieces. All milliseconds of audio; ``rate`` in multiples of real time."""

    rate: tuple[float, float] = (3.0, 10.0)
    first_ms: tuple[int, int] = (40, 100)
    piece_ms: tuple[int, int] = (100, 400)
    think_seconds: float = 0.3
    """From ``response.created`` to the first word."""


def plan_steps(
    answer: Answer,
    reply: Reply,
    *,
    now: float,
    pace: Pace,
    rate: float | None,
    voice: Voice,
    rng: random.Random,
    new_id: Callable[[str], str],
) -> deque[Step]:
    """The whole reply from ``now`` on, with its items; nothing of it has happened yet."""
    steps: deque[Step] = deque()
    due = now + pace.think_seconds
    speed = rate if rate is not None else rng.uniform(*pace.rate)
    for part in answer.items:
        if not isinstance(part, Spoken):
            item = Item(new_id("item"), "function_call", name=part.name, call_id=new_id("call"))
            steps.append(Step(due, "open", item))
            for at in range(0, len(part.arguments), 12):
                due += 0.02
                steps.append(Step(due, "arguments", item, part.arguments[at : at + 12]))
        elif reply.modality == "text":
            item = Item(new_id("item"), "message", "assistant", content=[{"type": "output_text", "text": ""}])
            steps.append(Step(due, "open", item))
            for number, word in enumerate(part.text.split()):
                due += 0.02
                steps.append(Step(due, "text", item, f" {word}" if number else word))
        else:
            audio, words = speak(part.text, voice, reply.form)
            item = Item(
                new_id("item"),
                "message",
                "assistant",
                content=[{"type": "output_audio", "transcript": ""}],
                form=reply.form,
                words=words,
            )
            steps.append(Step(due, "open", item))
            due = _speech(steps, item, audio, words, due, speed, pace, rng)
        steps.append(Step(due, "close", item))
    limit = reply.settings["max_output_tokens"]
    if isinstance(limit, int):
        cut_at_audio(steps, limit * 50 * BYTES_PER_MS[reply.form], "incomplete")
    if steps and steps[-1].kind == "incomplete":
        reply.reason = "max_output_tokens"
    else:
        steps.append(Step(due, "finish"))
    return steps


def _speech(
    steps: deque[Step],
    item: Item,
    audio: bytes,
    words: Sequence[Word],
    due: float,
    rate: float,
    pace: Pace,
    rng: random.Random,
) -> float:
    scale = BYTES_PER_MS[item.form]
    at = next_word = 0
    while at < len(audio):
        span = rng.randint(*(pace.first_ms if at == 0 else pace.piece_ms))
        if at and rng.random() < 0.08:
            span = LONG_PIECE_MS
        size = span * scale
        if item.form == "audio/pcm" and rng.random() < 0.1:
            size += 1  # half a sample: seen in the wild, so clients must carry the rest
        piece = audio[at : at + size]
        at += len(piece)
        while next_word < len(words) and words[next_word].start_ms * scale < at + WORDS_AHEAD_MS * scale:
            text = words[next_word].text
            steps.append(Step(due, "words", item, f" {text}" if next_word else text))
            next_word += 1
        steps.append(Step(due, "audio", item, piece))
        due += len(piece) / scale / 1000 / rate
    return due


def cut_at_audio(steps: deque[Step], limit_bytes: int, end: StepKind) -> None:
    """Let the reply stop when ``limit_bytes`` of its audio are out; nothing changes if it is shorter."""
    total = 0
    for index, step in enumerate(steps):
        if step.kind != "audio":
            continue
        if total + len(step.data) > limit_bytes:
            kept = step.data[: limit_bytes - total]
            while len(steps) > index:
                steps.pop()
            if kept:
                steps.append(attrs.evolve(step, data=kept))
            steps.append(Step(step.due, end))
            return
        total += len(step.data)


def cut_incomplete(steps: deque[Step], *, withheld: bool) -> None:
    """Let the reply end half way; ``withheld``: before its first output; without sound: behind its last."""
    audio = 0 if withheld else sum(len(step.data) for step in steps if step.kind == "audio")
    if audio:
        cut_at_audio(steps, audio // 2, "incomplete")
        return
    due = steps[0 if withheld else -1].due
    while steps and (withheld or steps[-1].kind == "finish"):
        steps.pop()
    steps.append(Step(due, "incomplete"))


def cut_at_stage(steps: deque[Step], stage: str) -> None:
    """Let the reply fail at ``stage``."""
    audio = sum(len(step.data) for step in steps if step.kind == "audio")
    if stage == "audio" and audio:
        cut_at_audio(steps, audio // 2, "fail")
        return
    keep = {"created": 0, "item": 1}.get(stage, len(steps) - 1)
    due = steps[min(keep, len(steps) - 1)].due
    while len(steps) > keep:
        steps.pop()
    steps.append(Step(due, "fail"))


def split_first_line(answer: Answer) -> Answer:
    """The same words, the first line as two items."""
    for index, part in enumerate(answer.items):
        if isinstance(part, Spoken) and len(words := part.text.split()) > 1:
            half = len(words) // 2
            two = (Spoken(" ".join(words[:half])), Spoken(" ".join(words[half:])))
            return Answer((*answer.items[:index], *two, *answer.items[index + 1 :]))
    return answer
