"""The speaking half of an emulated session: responses from ``response.created`` to ``response.done``."""

from __future__ import annotations

import abc
import base64
from typing import Any

import attrs

from callrt.testing.model_brain import quoted_line
from callrt.testing.model_checks import Rejected
from callrt.testing.model_core import SessionCore
from callrt.testing.model_faults import Fault
from callrt.testing.model_items import Conversation, Item
from callrt.testing.model_reply import Reply, Step, cut_at_stage, cut_incomplete, plan_steps, split_first_line
from callrt.testing.model_vad import BYTES_PER_MS

ASIDE_LIMIT = 8
"""Out-of-band replies at once; the service's own limit is not documented."""


@attrs.define(eq=False)
class RepliesHalf(SessionCore):
    session: dict[str, Any] = attrs.field(factory=dict)
    conversation: Conversation = attrs.field(factory=Conversation)
    conversation_id: str = ""
    replies: list[Reply] = attrs.field(factory=list)
    """All that were begun, in order."""
    spoken: list[Item] = attrs.field(factory=list)
    """All spoken items, in the order of their first byte, also those deleted since: for checkers."""
    has_spoken: bool = False
    _active: Reply | None = None
    _asides: list[Reply] = attrs.field(factory=list)

    # -- beginning ------------------------------------------------------------------------------------

    def _begin_reply(self, request: dict[str, Any]) -> None:
        """Start a response, asked for by the client or by turn detection. Raises :class:`Rejected`."""
        aside = request.get("conversation") == "none"
        if self._active is not None and not aside:
            raise Rejected(
                "conversation_already_has_active_response",
                f"Conversation already has an active response in progress: {self._active.id}. "
                "Wait until the response is finished before creating a new one.",
            )
        if aside and len(self._asides) >= ASIDE_LIMIT:
            raise Rejected("rate_limit_exceeded", "Too many out-of-band responses in progress.")
        known = self._context(request)
        self.replies_begun += 1
        self._strike("reply")
        if self.is_over:
            return
        reply = self._new_reply(request, aside, known)
        self.replies.append(reply)
        if aside:
            self._asides.append(reply)
        else:
            self._active = reply
        answer = self._think(request, known)
        if self._take("split"):
            answer = split_first_line(answer)
        rate = self._take("rate")
        reply.steps = plan_steps(
            answer,
            reply,
            now=self.now,
            pace=self.options.pace,
            rate=None if rate is None else rate.rate,
            voice=self.voice,
            rng=self.rng,
            new_id=self._id,
        )
        if (fault := self._take("incomplete")) is not None:
            reply.reason = fault.reason or "max_output_tokens"
            cut_incomplete(reply.steps, withheld=reply.reason == "content_filter")
        if (fault := self._poison or self._take("fail")) is not None:
            reply.error = _error_of(fault)
            cut_at_stage(reply.steps, fault.stage)
        self._emit("response.created", response=reply.as_json(self.conversation_id))
        self._schedule(reply)

    def _context(self, request: dict[str, Any]) -> list[Item]:
        if request.get("input") is None:
            return [item for item in self.conversation.items if item.status != "in_progress"]
        known = []
        for index, part in enumerate(request["input"]):
            if part["type"] == "item_reference":
                found = self.conversation.find(part["id"])
                if found is None:
                    raise Rejected(
                        "invalid_value",
                        f"Item with item_id not found: {part['id']}",
                        f"response.input[{index}].id",
                    )
                known.append(found)
            else:
                known.append(self._make_item(part))
        return known

    @abc.abstractmethod
    def _make_item(self, source: dict[str, Any]) -> Item: ...

    def _new_reply(self, request: dict[str, Any], aside: bool, known: list[Item]) -> Reply:
        output = {**self.session["audio"]["output"], **request.get("audio", {}).get("output", {})}
        modality = request.get("output_modalities", self.session["output_modalities"])[0]
        return Reply(
            self._id("resp"),
            self.replies_begun,
            aside,
            "text" if self._take("text") else modality,
            output["format"]["type"],
            {
                "max_output_tokens": request.get("max_output_tokens", self.session["max_output_tokens"]),
                "metadata": request.get("metadata"),
                "audio": {"output": {"format": output["format"], "voice": output["voice"]}},
            },
            known=known,
        )

    def _think(self, request: dict[str, Any], known: list[Item]) -> Any:
        history = [item.as_known() for item in known]
        own = request.get("instructions")
        exact = quoted_line(own) if own else None
        if exact is None:
            for item in reversed(history):
                if item.get("role") != "system":
                    break
                if (exact := quoted_line(item["content"][0].get("text", ""))) is not None:
                    break
        instructions = self.session["instructions"] if own is None else own
        if exact is None and not any(item.get("role") in ("user", "assistant") for item in history):
            exact = quoted_line(instructions)
        return self.brain.answer(history, instructions, exact)

    # -- step by step ---------------------------------------------------------------------------------

    def _schedule(self, reply: Reply) -> None:
        if reply.steps:
            self._later(max(reply.steps[0].due, self.now), lambda: self._step(reply))

    def _step(self, reply: Reply) -> None:
        if reply.status != "in_progress" or not reply.steps:
            return
        step = reply.steps.popleft()
        item = step.item
        match step.kind:
            case "open":
                assert item is not None
                self._open(reply, item)
            case "words":
                assert item is not None
                assert isinstance(step.data, str)
                item.said.append(step.data)
                self._emit("response.output_audio_transcript.delta", **_part(reply, item), delta=step.data)
            case "audio":
                self._send_audio(reply, step)
            case "text":
                assert item is not None
                item.content[0]["text"] += step.data
                self._emit("response.output_text.delta", **_part(reply, item), delta=step.data)
            case "arguments":
                assert item is not None
                assert isinstance(step.data, str)
                item.arguments += step.data
                self._emit("response.function_call_arguments.delta", **_call(reply, item), delta=step.data)
            case "close":
                self._close_item(reply, "completed")
            case "finish":
                self._finish(reply, "completed")
            case "incomplete":
                self._close_item(reply, "incomplete")
                self._finish(reply, "incomplete", reply.reason)
            case "fail":
                self._close_item(reply, "incomplete")
                self._finish(reply, "failed")
        self._schedule(reply)

    def _open(self, reply: Reply, item: Item) -> None:
        item.status = "in_progress"
        reply.items.append(item)
        reply.open_item = item
        shown = item.as_json()
        if item.kind == "message":
            shown["content"] = []
        self._emit(
            "response.output_item.added", response_id=reply.id, output_index=len(reply.items) - 1, item=shown
        )
        if not reply.aside:
            self.conversation.add(item)
            self._emit(
                "conversation.item.added", item=shown, previous_item_id=self.conversation.previous_of(item)
            )
        if item.kind == "message":
            part = {"type": "text", "text": ""} if not item.is_spoken else {"type": "audio", "transcript": ""}
            self._emit("response.content_part.added", **_part(reply, item), part=part)

    def _send_audio(self, reply: Reply, step: Step) -> None:
        item, data = step.item, step.data
        assert item is not None
        assert isinstance(data, bytes)
        scale = BYTES_PER_MS[item.form]
        point = self.plan.next_audio_ms(self.connection, reply.number, reply.sent_bytes // scale)
        if point is not None and (room := point * scale - reply.sent_bytes) < len(data):
            reply.steps.appendleft(attrs.evolve(step, data=data[room:]))
            data = data[:room]
        if not item.audio:
            self.spoken.append(item)
        self.has_spoken = True
        item.audio += data
        reply.sent_bytes += len(data)
        self._emit("response.output_audio.delta", **_part(reply, item), delta=base64.b64encode(data).decode())
        if point is not None and reply.sent_bytes == point * scale:
            self._strike("audio", audio_ms=point)

    # -- ending ---------------------------------------------------------------------------------------

    def _close_item(self, reply: Reply, status: str) -> None:
        item, reply.open_item = reply.open_item, None
        if item is None:
            return
        item.status = status
        if item.kind == "function_call":
            self._emit(
                "response.function_call_arguments.done",
                **_call(reply, item),
                name=item.name,
                arguments=item.arguments,
            )
        elif item.is_spoken:
            transcript = "".join(item.said)
            if item.truncated_ms is None:
                item.content[0]["transcript"] = transcript
            self._emit("response.output_audio.done", **_part(reply, item))
            self._emit("response.output_audio_transcript.done", **_part(reply, item), transcript=transcript)
            self._emit(
                "response.content_part.done",
                **_part(reply, item),
                part={"type": "audio", "transcript": transcript},
            )
        else:
            text = item.content[0]["text"]
            self._emit("response.output_text.done", **_part(reply, item), text=text)
            self._emit(
                "response.content_part.done", **_part(reply, item), part={"type": "text", "text": text}
            )
        if not reply.aside and item in self.conversation.items:
            self._emit(
                "conversation.item.done",
                item=item.as_json(),
                previous_item_id=self.conversation.previous_of(item),
            )
        self._emit(
            "response.output_item.done",
            response_id=reply.id,
            output_index=reply.items.index(item),
            item=item.as_json(),
        )

    def _finish(self, reply: Reply, status: Any, reason: str = "") -> None:
        reply.status, reply.reason = status, reason
        reply.steps.clear()
        if reply is self._active:
            self._active = None
        elif reply in self._asides:
            self._asides.remove(reply)
        self._emit("response.done", response=reply.as_json(self.conversation_id))
        self._emit("rate_limits.updated", rate_limits=_RATE_LIMITS)
        self._after_reply(reply)

    @abc.abstractmethod
    def _after_reply(self, reply: Reply) -> None: ...

    def _cancel(self, reply: Reply, reason: str) -> None:
        late = self._take("late_deltas")
        dead = reply.open_item
        pieces: list[bytes] = []
        if late is not None and dead is not None and dead.is_spoken:
            room = late.ms * BYTES_PER_MS[dead.form]
            for step in reply.steps:
                if step.kind == "audio" and step.item is dead and room > 0:
                    assert isinstance(step.data, bytes)
                    pieces.append(step.data[:room])
                    room -= len(pieces[-1])
        if late is not None and not late.after_done:
            self._send_late(reply, dead, pieces)
        self._close_item(reply, "incomplete")
        self._finish(reply, "cancelled", reason)
        if late is not None and late.after_done:
            self._send_late(reply, dead, pieces)

    def _send_late(self, reply: Reply, item: Item | None, pieces: list[bytes]) -> None:
        for data in pieces:
            assert item is not None
            self._emit(
                "response.output_audio.delta", **_part(reply, item), delta=base64.b64encode(data).decode()
            )

    def _fail_now(self, fault: Fault) -> None:
        if self._active is not None:
            reply = self._active
            reply.error = _error_of(fault)
            self._close_item(reply, "incomplete")
            self._finish(reply, "failed")


_RATE_LIMITS = [
    {"name": "requests", "limit": 400, "remaining": 399, "reset_seconds": 0.15},
    {"name": "tokens", "limit": 200_000, "remaining": 199_000, "reset_seconds": 0.3},
]


def _part(reply: Reply, item: Item) -> dict[str, Any]:
    return {
        "response_id": reply.id,
        "item_id": item.id,
        "output_index": reply.items.index(item),
        "content_index": 0,
    }


def _call(reply: Reply, item: Item) -> dict[str, Any]:
    return {
        "response_id": reply.id,
        "item_id": item.id,
        "output_index": reply.items.index(item),
        "call_id": item.call_id,
    }


def _error_of(fault: Fault) -> dict[str, Any]:
    return {
        "type": fault.error_type,
        "code": fault.error_code,
        "message": fault.reason or "The emulated service failed to make this response.",
    }
