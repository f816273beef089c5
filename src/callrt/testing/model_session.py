"""An emulated OpenAI Realtime (GA) session: strict, sans-IO, and open to inspection.

Text in, values out, time as an argument. Everything that a client does is checked as the real service checks
it; everything that was said and told is kept for checkers.
"""

from __future__ import annotations

import base64
import binascii
import functools
from typing import Any

import attrs
import msgspec
import numpy as np

from callrt.testing.model_checks import Rejected
from callrt.testing.model_config import check_client_event, default_session, update_session
from callrt.testing.model_core import Out, Told
from callrt.testing.model_items import Item
from callrt.testing.model_replies import RepliesHalf
from callrt.testing.model_reply import Reply
from callrt.testing.model_vad import Detection, Ear, Samples, Started, Stopped, to_samples

APPEND_LIMIT = 15 * 1024 * 1024
COMMIT_MS_MIN = 100
APPEND = "input_audio_buffer.append"
FRAME_CHARS = 400
"""An append of 20 ms is shorter."""
_APPEND = f'{{"type":"{APPEND}"'


@attrs.define(eq=False)
class ModelSession(RepliesHalf):
    """See the module. Drive it with :meth:`start`, ``receive``, ``advance`` and ``next_due``."""

    ear: Ear = attrs.field(factory=Ear)
    appended_bytes: int = 0
    caller_turns: list[Item] = attrs.field(factory=list)
    """Every committed turn of the caller's, also those deleted since: for checkers."""
    truncations: list[tuple[float, str, int]] = attrs.field(factory=list)
    """(time, item, audio_end_ms) of each truncation that was accepted."""
    refused: list[tuple[float, str | None, str]] = attrs.field(factory=list)
    """(time, code, message) of each client event that was not."""
    _speech_item: str = ""
    _owed_transcripts: list[Item] = attrs.field(factory=list)
    _idle_round: int = 0

    @property
    def items(self) -> dict[str, Item]:
        """The conversation by item id, in order."""
        return {item.id: item for item in self.conversation.items}

    def start(self, now: float) -> list[Out]:
        """The socket is open: ``session.created``."""
        self.now = self.began = now
        self.conversation_id = self._id("conv")
        expires = int((self.options.unix_start or 0.0) + now + self.options.session_seconds)
        self.session = default_session(self._id("sess"), self.model, expires)
        self._configure_ear()
        self._later(
            now + self.options.session_seconds, lambda: self._expire(with_error=self.options.expiry_error)
        )
        self._watch_times(self.plan.times_due(self.connection))
        self._strike("connect")
        self._emit("session.created", session=self.session)
        return self._taken()

    # -- client events --------------------------------------------------------------------------------

    def _handle(self, message: str | bytes) -> None:
        if isinstance(message, str) and len(message) < FRAME_CHARS and message.startswith(_APPEND):
            frame = _frame(message)
            if frame is not None:
                self.told.append(Told(self.now, frame[0]))
                self._hear(frame[1])
                self._count(APPEND)
                return
        event: Any = None
        try:
            event = _parse(message)
            kind = check_client_event(event)
            self._remember(kind, event)
            match kind:
                case "session.update":
                    self._on_update(event)
                case "input_audio_buffer.append":
                    self._on_append(event)
                case "input_audio_buffer.commit":
                    self._on_commit()
                case "input_audio_buffer.clear":
                    self.ear.clear()
                    self._emit("input_audio_buffer.cleared")
                case "conversation.item.create":
                    self._on_create(event)
                case "conversation.item.truncate":
                    self._on_truncate(event)
                case "conversation.item.delete":
                    item = self._known_item(event, "delete")
                    self.conversation.remove(item)
                    self._emit("conversation.item.deleted", item_id=item.id)
                case "conversation.item.retrieve":
                    item = self._known_item(event, "retrieve")
                    self._emit("conversation.item.retrieved", item=item.as_json(with_audio=True))
                case "response.create":
                    self._begin_reply(event.get("response") or {})
                case "response.cancel":
                    self._on_cancel(event)
            self._count(kind)
        except Rejected as rejected:
            self.refused.append((self.now, rejected.code, rejected.message))
            event_id = event.get("event_id") if isinstance(event, dict) else None
            self._error(
                rejected.code,
                rejected.message,
                kind=rejected.kind,
                param=rejected.param,
                event_id=event_id if isinstance(event_id, str) else None,
            )

    def _remember(self, kind: str, event: dict[str, Any]) -> None:
        self.told.append(Told(self.now, _without_audio(event) if kind == APPEND else event))

    def _on_update(self, event: dict[str, Any]) -> None:
        before = self.session["audio"]["input"]
        self.session = update_session(
            self.session, event["session"], has_spoken=self.has_spoken, is_replying=self._active is not None
        )
        if self.session["audio"]["input"] != before:
            self._configure_ear()
        self._emit("session.updated", session=self.session)

    def _configure_ear(self) -> None:
        config = self.session["audio"]["input"]
        self.ear.form = config["format"]["type"]
        turn = config["turn_detection"]
        self.ear.detection = None if turn is None else Detection.of(turn)

    def _on_append(self, event: dict[str, Any]) -> None:
        if len(event["audio"]) * 3 // 4 > APPEND_LIMIT:
            raise Rejected("invalid_value", "Audio is larger than 15 MiB.", "audio")
        self._hear(_decode_audio(event["audio"], "audio"))

    def _hear(self, data: bytes) -> None:
        self.appended_bytes += len(data)
        for found in self.ear.append(data):
            if isinstance(found, Started):
                self._on_speech_started(found)
            else:
                self._on_speech_stopped(found)

    def _on_commit(self) -> None:
        buffered = self.ear.buffered_ms
        if buffered < COMMIT_MS_MIN:
            raise Rejected(
                "input_audio_buffer_commit_empty",
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
                f"but buffer only has {buffered:.2f}ms of audio.",
            )
        self._commit(self.ear.take(), self._speech_item or self._id("item"))
        self._speech_item = ""

    # -- items ----------------------------------------------------------------------------------------

    def _on_create(self, event: dict[str, Any]) -> None:
        item = self._make_item(event["item"])
        after = event.get("previous_item_id")
        if after is not None and after != "root" and self.conversation.find(after) is None:
            raise Rejected(
                "invalid_value",
                f"Previous item with item_id not found: {after}",
                "previous_item_id",
            )
        if self.conversation.find(item.id) is not None:
            raise Rejected(
                "item_create_duplicate_item_id",
                f"Error adding item: an item with id '{item.id}' already exists.",
                "item.id",
            )
        if (
            item.kind == "function_call_output"
            and self.options.strict_call_ids
            and not self.conversation.knows_call(item.call_id)
        ):
            raise Rejected(
                "invalid_value", f"Tool call ID '{item.call_id}' not found in conversation.", "item.call_id"
            )
        self.conversation.add(item, after)
        self._show_item(item)

    def _make_item(self, source: dict[str, Any]) -> Item:
        item = Item(source.get("id") or self._id("item"), source["type"])
        if item.kind == "message":
            item.role = source["role"]
            for index, part in enumerate(source["content"]):
                if part["type"] != "input_audio":
                    item.content.append(dict(part))
                    continue
                data = _decode_audio(part["audio"], f"item.content[{index}].audio")
                form = self.ear.form
                whole = data[: len(data) - len(data) % (6 if form == "audio/pcm" else 1)]
                item.caller_audio = np.concatenate([item.caller_audio, to_samples(whole, form)])
                item.understood = self.brain.listen(item.caller_audio)
                item.content.append({"type": "input_audio", "transcript": part.get("transcript")})
        elif item.kind == "function_call":
            item.name, item.arguments = source["name"], source["arguments"]
            item.call_id = source.get("call_id") or self._id("call")
        else:
            item.call_id, item.output = source["call_id"], source["output"]
        return item

    def _show_item(self, item: Item) -> None:
        shown = item.as_json()
        previous = self.conversation.previous_of(item)
        self._emit("conversation.item.added", item=shown, previous_item_id=previous)
        self._emit("conversation.item.done", item=shown, previous_item_id=previous)

    def _known_item(self, event: dict[str, Any], verb: str) -> Item:
        item = self.conversation.find(event["item_id"])
        if item is None:
            raise Rejected(
                f"item_{verb}_invalid_item_id",
                f"Error {verb[:-1]}ing item: the item with id '{event['item_id']}' does not exist.",
                "item_id",
            )
        return item

    def _on_truncate(self, event: dict[str, Any]) -> None:
        item = self._known_item(event, "truncate")
        if not item.is_spoken:
            raise Rejected("invalid_value", "Only model output audio messages can be truncated.", "item_id")
        if event["content_index"] >= len(item.content):
            raise Rejected("invalid_value", "There is no content part with this index.", "content_index")
        length = item.sent_ms if item.truncated_ms is None else item.truncated_ms
        end = event["audio_end_ms"]
        if end > length:
            raise Rejected(
                "invalid_value",
                f"Audio content of {length}ms is already shorter than {end}ms",
                "audio_end_ms",
            )
        item.truncated_ms = end
        item.content[0]["transcript"] = None  # the service drops the text and offers no shorter one
        self.truncations.append((self.now, item.id, end))
        self._emit(
            "conversation.item.truncated",
            item_id=item.id,
            content_index=event["content_index"],
            audio_end_ms=end,
        )

    def _on_cancel(self, event: dict[str, Any]) -> None:
        wanted = event.get("response_id")
        running = [reply for reply in (self._active, *self._asides) if reply is not None]
        chosen = (
            self._active if wanted is None else next((each for each in running if each.id == wanted), None)
        )
        if chosen is None:
            raise Rejected("response_cancel_not_active", "Cancellation failed: no active response found")
        self._cancel(chosen, "client_cancelled")

    # -- turns ----------------------------------------------------------------------------------------

    def _on_speech_started(self, found: Started) -> None:
        self._idle_round += 1
        self._speech_item = self._id("item")
        self._emit("input_audio_buffer.speech_started", audio_start_ms=found.at_ms, item_id=self._speech_item)
        turn = self.session["audio"]["input"]["turn_detection"]
        if self._active is not None and turn is not None and turn["interrupt_response"]:
            self._cancel(self._active, "turn_detected")

    def _on_speech_stopped(self, found: Stopped) -> None:
        item_id, self._speech_item = self._speech_item, ""
        self._emit("input_audio_buffer.speech_stopped", audio_end_ms=found.at_ms, item_id=item_id)
        self._commit(found.audio, item_id)
        self._owe_reply()

    def _commit(self, audio: Samples, item_id: str) -> None:
        item = Item(item_id, "message", "user", content=[{"type": "input_audio", "transcript": None}])
        item.caller_audio, item.understood = audio, self.brain.listen(audio)
        self.caller_turns.append(item)
        previous = self.conversation.items[-1].id if self.conversation.items else None
        self.conversation.add(item)
        self._emit("input_audio_buffer.committed", item_id=item.id, previous_item_id=previous)
        self._show_item(item)
        self._owe_transcript(item)

    def _owe_reply(self) -> None:
        turn = self.session["audio"]["input"]["turn_detection"]
        if turn is None or not turn["create_response"] or self._take("no_reply"):
            return

        def answer() -> None:
            # With interrupt_response off a reply may still run: then, as documented, none is created.
            if self._active is None:
                self._begin_reply({})

        self._later(self.now + self.options.reply_delay, answer)

    def _owe_transcript(self, item: Item) -> None:
        fault = self._take("transcription")
        mode = self.options.transcription if fault is None else fault.mode
        if self.session["audio"]["input"]["transcription"] is None or mode == "never":
            return
        if mode == "after":
            self._owed_transcripts.append(item)
        elif mode == "failed":
            self._later(self.now + self.options.transcription_seconds, lambda: self._fail_transcript(item))
        else:
            delay = 0.0 if mode == "before" else self.options.transcription_seconds
            self._later(self.now + delay, lambda: self._send_transcript(item))

    def _send_transcript(self, item: Item) -> None:
        item.content[0]["transcript"] = item.understood
        kind = "conversation.item.input_audio_transcription"
        if item.understood:
            self._emit(f"{kind}.delta", item_id=item.id, content_index=0, delta=item.understood)
        self._emit(
            f"{kind}.completed",
            item_id=item.id,
            content_index=0,
            transcript=item.understood,
            usage={"type": "duration", "seconds": len(item.caller_audio) / 8000},
        )

    def _fail_transcript(self, item: Item) -> None:
        self._emit(
            "conversation.item.input_audio_transcription.failed",
            item_id=item.id,
            content_index=0,
            error={
                "type": "transcription_error",
                "code": "audio_unintelligible",
                "message": "Input transcription failed for this item.",
                "param": None,
            },
        )

    def _hear_phantom(self) -> None:
        at_ms = self.ear.at_ms
        self._on_speech_started(Started(at_ms))
        noise = np.zeros(1600, np.int16)
        self._later(self.now + 0.2, lambda: self._on_speech_stopped(Stopped(at_ms, self.ear.at_ms, noise)))

    def _after_reply(self, reply: Reply) -> None:
        owed, self._owed_transcripts = self._owed_transcripts, []
        for item in owed:
            self._send_transcript(item)
        turn = self.session["audio"]["input"]["turn_detection"]
        idle = None if turn is None else turn.get("idle_timeout_ms")
        if idle is not None and not reply.aside:
            self._idle_round += 1
            this_round = self._idle_round
            heard_at = self.now + reply.sent_ms / 1000
            self._later(heard_at + idle / 1000, lambda: self._on_idle(this_round))

    def _on_idle(self, this_round: int) -> None:
        if this_round != self._idle_round or self._active is not None or self.ear.in_speech:
            return
        item_id, end = self._id("item"), self.ear.at_ms
        start = max(0, end - self.ear.buffered_ms)
        self._emit(
            "input_audio_buffer.timeout_triggered", audio_start_ms=start, audio_end_ms=end, item_id=item_id
        )
        self._commit(self.ear.take(), item_id)
        self._begin_reply({})


def _parse(message: str | bytes) -> Any:
    if isinstance(message, bytes):
        raise Rejected("invalid_event", "Binary frames are not accepted: send JSON text.")
    try:
        return msgspec.json.decode(message)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Rejected("invalid_json", "The message is not valid JSON.") from error


@functools.lru_cache(maxsize=8192)
def _frame(message: str) -> tuple[dict[str, Any], bytes] | None:
    """A frame's append, checked: as it is remembered, and its audio. It comes fifty times a second, mostly silent."""
    try:
        event = _parse(message)
        if check_client_event(event) != APPEND:
            return None
        return _without_audio(event), _decode_audio(event["audio"], "audio")
    except Rejected:
        return None


def _without_audio(event: dict[str, Any]) -> dict[str, Any]:
    encoded = event["audio"]
    return {**event, "audio": len(encoded) * 3 // 4 - encoded[-2:].count("=")}


def _decode_audio(encoded: str, param: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Rejected("invalid_value", f"Invalid '{param}': not valid base64.", param) from error
