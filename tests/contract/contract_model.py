"""An independent minimal model server, with habits that the protocol allows and few clients expect.

Ids repeat in every session (``i1``, ``resp1``, ``c1``); event ids are numbers; no ``conversation.item.created``, no
``rate_limits``; ``session.updated`` is late; extra fields everywhere; deltas of odd sizes; transcripts before,
after or never. Strict where the real one is: what it would reject is noted in ``violations``.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from contract_audio import FRAME, loud, speech, stamps
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

ODD = (37, 1601, 320, 799, 2400, 160, 3203)
CLIENT_EVENTS = {
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.truncate",
    "conversation.item.delete",
    "conversation.item.retrieve",
    "response.create",
    "response.cancel",
}


class Brain:
    """What the model does in one scene. Subclass, or set ``on_reply``."""

    def __init__(self, on_reply: Callable[[Session, int], Awaitable[None]] | None = None) -> None:
        self.sessions: list[Session] = []
        self.on_reply_ = on_reply
        self.refuse: Callable[[int], int | None] = lambda attempt: None
        """HTTP status for the n-th upgrade, or None."""
        self.attempts = 0
        self.transcripts = "after"
        self.voices = itertools.count(1)
        self.said: dict[int, tuple[str, int]] = {}
        """Voice number to words and milliseconds sent."""
        self.violations: list[str] = []
        self.after_update: Callable[[Session], Awaitable[None]] | None = None
        self.forgetful = False
        """Keep nothing: for hundreds of calls."""

    async def on_reply(self, session: Session, turn: int) -> None:
        """``turn``: number of the reply within this session, from 1."""
        if self.on_reply_ is not None:
            await self.on_reply_(session, turn)
        else:
            await session.say(f"Reply number {turn} of the model.", 600)


class Session:
    def __init__(self, brain: Brain, ws: WebSocketConnection, nursery: trio.Nursery) -> None:
        self.brain, self.ws, self.nursery = brain, ws, nursery
        self.number = len(brain.sessions) + 1
        self.opened_at = trio.current_time()
        self.live_at: float | None = None
        self.config: dict[str, Any] = {}
        self.items: dict[str, dict[str, Any]] = {}
        self.order: list[str] = []
        self.audio_ms: dict[str, float] = {}
        self.voice_of: dict[str, int] = {}
        self.truncated: dict[str, int] = {}
        self.deleted: list[str] = []
        self.received: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.heard: dict[int, list[int]] = {}
        self.outputs: list[tuple[str, str]] = []
        self.replies = 0
        self.ids = itertools.count(1)
        self.closed = trio.Event()
        self.close_code: int | None = None
        self._events = itertools.count(1)
        self._buffer = b""
        self._clock = 0
        self._loud = self._quiet = 0
        self._turn_item: str | None = None
        self._turn_tags: dict[int, None] = {}
        self._active: trio.CancelScope | None = None
        self._active_id: str | None = None
        self.speech_started_at: list[float] = []
        self.frozen = False
        """Reads nothing any more; once its socket's queue is full, it does not even answer a close."""

    # -- sending ---------------------------------------------------------------------------------------

    async def send(self, kind: str, **fields: Any) -> None:
        message = {"type": kind, "event_id": next(self._events), "x_extra": {"a": [1]}, **fields}
        await self.raw(json.dumps(message))

    async def raw(self, message: str | bytes) -> None:
        try:
            await self.ws.send_message(message)
        except ConnectionClosed:
            raise trio.BrokenResourceError from None

    async def error(self, code: str | None, message: str = "no", kind: str = "invalid_request_error") -> None:
        await self.send("error", error={"type": kind, "code": code, "message": message, "param": None})

    async def close(self, code: int, reason: str = "") -> None:
        await self.ws.aclose(code, reason)

    def reset(self) -> None:
        """The network goes, without a word."""
        self.ws._stream.socket.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.ws._stream.socket.close()

    async def say(
        self,
        words: str,
        ms: int,
        *,
        upto: int | None = None,
        pace: float = 0.0,
        status: str = "completed",
        error: dict[str, Any] | None = None,
        split: int | None = None,
        then_tools: tuple[tuple[str, str], ...] = (),
    ) -> int:
        """A whole reply, or one that stops for ever after ``upto`` ms. Returns its voice number."""
        brain = self.brain
        if self._active_id is not None:
            raise RuntimeError("already a response")
        response = f"resp{next(self.ids)}"
        self._active_id = response
        voice = next(brain.voices)
        try:
            with trio.CancelScope() as self._active:
                await self.send("response.created", response=self._response(response, "in_progress"))
                parts = [ms] if split is None else [split, ms - split]
                output = []
                for index, part in enumerate(parts):
                    number = voice if index == 0 else next(brain.voices)
                    item = await self._speak_item(response, index, number, words, part, upto, pace)
                    output.append(item)
                    if upto is not None:
                        return voice
                for index, (name, arguments) in enumerate(then_tools):
                    output.append(await self._call_item(response, len(parts) + index, name, arguments))
                self._active_id = None
                await self.send(
                    "response.done",
                    response=self._response(response, status, output, error),
                )
            if self._active.cancelled_caught:
                self._active_id = None
                await self.send(
                    "response.done",
                    response={
                        **self._response(response, "cancelled"),
                        "status_details": {"type": "cancelled", "reason": "turn_detected"},
                    },
                )
        finally:
            if upto is None:
                self._active_id = None
            self._active = None
        return voice

    async def call(self, *calls: tuple[str, str], status: str = "completed") -> None:
        """A reply of function calls only: (name, arguments)."""
        response = f"resp{next(self.ids)}"
        self._active_id = response
        await self.send("response.created", response=self._response(response, "in_progress"))
        output = [
            await self._call_item(response, index, name, arguments, status)
            for index, (name, arguments) in enumerate(calls)
        ]
        self._active_id = None
        await self.send("response.done", response=self._response(response, status, output))

    async def fail(self, code: str | None, kind: str = "server_error") -> None:
        response = f"resp{next(self.ids)}"
        await self.send("response.created", response=self._response(response, "in_progress"))
        await self.send(
            "response.done",
            response=self._response(response, "failed", [], {"type": kind, "code": code, "message": "x"}),
        )

    async def _speak_item(
        self, response: str, index: int, voice: int, words: str, ms: int, upto: int | None, pace: float
    ) -> dict[str, Any]:
        brain = self.brain
        item = {"id": f"i{next(self.ids)}", "type": "message", "role": "assistant", "content": []}
        name = item["id"]
        at = {"response_id": response, "item_id": name, "output_index": index, "content_index": 0}
        self.order.append(name)
        self.items[name] = item
        self.audio_ms[name] = 0
        self.voice_of[name] = voice
        brain.said[voice] = (words, 0)
        await self.send(
            "response.output_item.added",
            response_id=response,
            output_index=index,
            item={**item, "status": "in_progress"},
        )
        await self.send("conversation.item.added", item=item, previous_item_id=None)
        await self.send("response.content_part.added", **at, part={"type": "audio"})
        if brain.transcripts == "before":
            for word in words.split(" "):
                await self.send("response.output_audio_transcript.delta", **at, delta=word + " ")
        audio = speech(voice, ms)
        sizes = itertools.cycle(ODD)
        sent = 0
        while sent < len(audio):
            piece = audio[sent : sent + next(sizes)]
            if upto is not None:
                piece = piece[: max(0, upto * 8 - sent)]
                if not piece:
                    return item
            sent += len(piece)
            self.audio_ms[name] = sent / 8
            brain.said[voice] = (words, sent // 8)
            delta = base64.b64encode(piece).decode()
            await self.send("response.output_audio.delta", **at, delta=delta)
            if pace:
                await trio.sleep(len(piece) / 8000 * pace)
        if brain.transcripts == "after":
            await self.send("response.output_audio_transcript.delta", **at, delta=words)
        await self.send("response.output_audio.done", **at)
        if brain.transcripts != "never":
            await self.send("response.output_audio_transcript.done", **at, transcript=words)
        await self.send("response.content_part.done", **at, part={"type": "audio", "transcript": words})
        done = {
            **item,
            "status": "completed",
            "content": [{"type": "output_audio", "transcript": words}],
        }
        await self.send("response.output_item.done", response_id=response, output_index=index, item=done)
        return done

    async def _call_item(
        self, response: str, index: int, name: str, arguments: str, status: str = "completed"
    ) -> dict[str, Any]:
        ident, call = f"i{next(self.ids)}", f"c{next(self.ids)}"
        item = {"id": ident, "type": "function_call", "name": name, "call_id": call, "arguments": ""}
        self.order.append(ident)
        await self.send("response.output_item.added", response_id=response, output_index=index, item=item)
        at = {"response_id": response, "item_id": ident, "output_index": index, "call_id": call}
        await self.send("response.function_call_arguments.delta", **at, delta=arguments)
        await self.send("response.function_call_arguments.done", **at, arguments=arguments, name=name)
        item = {**item, "arguments": arguments, "status": status}
        self.items[ident] = item
        await self.send("conversation.item.added", item=item, previous_item_id=None)
        await self.send("conversation.item.done", item=item, previous_item_id=None)
        await self.send("response.output_item.done", response_id=response, output_index=index, item=item)
        return item

    def _response(
        self, name: str, status: str, output: Any = (), error: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        details = {"type": status, "error": error} if error else None
        return {
            "id": name,
            "object": "realtime.response",
            "status": status,
            "status_details": details,
            "output": list(output),
            "usage": None,
            "metadata": None,
        }

    # -- what the client says ----------------------------------------------------------------------------

    async def run(self) -> None:
        await trio.sleep(0.02)
        await self.send("session.created", session={"id": "sess-1", "type": "realtime", "expires_at": 0})
        while True:
            if self.frozen:
                await trio.sleep_forever()
            message = await self.ws.get_message()
            if isinstance(message, bytes):
                self.violate("binary frame")
                continue
            event = json.loads(message)
            if event["type"] != "input_audio_buffer.append":
                self.received.append(event)
            await self._take(event)

    def violate(self, what: str) -> None:
        self.brain.violations.append(f"session {self.number}: {what}")

    async def _take(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind not in CLIENT_EVENTS:
            self.violate(f"unknown event {kind}")
            await self.error("invalid_value")
        elif kind == "session.update":
            await self._configure(event)
        elif kind == "input_audio_buffer.append":
            await self._hear(base64.b64decode(event["audio"], validate=True))
        elif kind == "input_audio_buffer.commit":
            self.violate("commit under VAD")
        elif kind == "input_audio_buffer.clear":
            await self.send("input_audio_buffer.cleared")
        elif kind == "conversation.item.create":
            await self._create(event)
        elif kind == "conversation.item.truncate":
            await self._truncate(event)
        elif kind == "conversation.item.delete":
            if event["item_id"] not in self.order:
                self.violate("delete of an unknown item")
                await self.error("item_delete_invalid_item_id")
            else:
                self.deleted.append(event["item_id"])
                await self.send("conversation.item.deleted", item_id=event["item_id"])
        elif kind == "response.create":
            self.requests.append(event)
            if self._active_id is not None:
                await self.error(
                    "conversation_already_has_active_response", f"active response {self._active_id}"
                )
            else:
                self._start_reply()
        elif kind == "response.cancel":
            if self._active_id is None:
                await self.error("response_cancel_not_active")
            else:
                self.cancel()

    def cancel(self) -> None:
        if self._active is not None:
            self._active.cancel()

    def _start_reply(self) -> None:
        self.replies += 1
        self.nursery.start_soon(self._reply, self.replies)

    async def _reply(self, turn: int) -> None:
        try:
            await self.brain.on_reply(self, turn)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionClosed, OSError):
            self.closed.set()

    async def _configure(self, event: dict[str, Any]) -> None:
        session = event["session"]
        if session.get("type") != "realtime":
            self.violate("session.update without its type")
            await self.error("missing_required_parameter")
            return
        known = {
            "type",
            "model",
            "output_modalities",
            "instructions",
            "audio",
            "tools",
            "tool_choice",
            "truncation",
            "max_output_tokens",
            "tracing",
            "include",
            "prompt",
            "parallel_tool_calls",
            "reasoning",
        }
        if extra := set(session) - known:
            self.violate(f"unknown keys {sorted(extra)}")
            await self.error("unknown_parameter")
            return
        for end in ("input", "output"):
            given = session.get("audio", {}).get(end, {}).get("format")
            if given not in (None, {"type": "audio/pcmu"}):
                self.violate(f"{end} format {given}")
        self.config = merge(self.config, session)
        await trio.sleep(0.1)
        await self.send("session.updated", session={**self.config, "id": "sess-1", "new_field": 3})
        if self.live_at is None:
            self.live_at = trio.current_time()
            if self.brain.after_update is not None:
                await self.brain.after_update(self)

    async def _create(self, event: dict[str, Any]) -> None:
        item = event["item"]
        name = item.get("id") or f"i{next(self.ids)}"
        if name in self.items:
            self.violate(f"item id {name} given twice")
            await self.error("item_create_duplicate_item_id")
            return
        if len(name) > 32:
            self.violate("item id too long")
        for part in item.get("content", ()):
            wanted = {
                "user": {"input_text", "input_audio"},
                "assistant": {"output_text"},
                "system": {"input_text"},
            }
            if part["type"] not in wanted[item["role"]]:
                self.violate(f"{item['role']} item with {part['type']}")
        if item["type"] == "function_call_output":
            self.outputs.append((item["call_id"], item["output"]))
            calls = [i.get("call_id") for i in self.items.values() if i["type"] == "function_call"]
            if item["call_id"] not in calls:
                self.violate("output of an unknown call")
                await self.error("invalid_tool_call_id")
                return
        self.items[name] = {**item, "id": name}
        self.order.append(name)
        await self.send("conversation.item.added", item={**item, "id": name}, previous_item_id=None)
        await self.send("conversation.item.done", item={**item, "id": name}, previous_item_id=None)

    async def _truncate(self, event: dict[str, Any]) -> None:
        name, at = event["item_id"], event["audio_end_ms"]
        if name not in self.audio_ms:
            self.violate("truncate of an item without audio here")
            await self.error("item_truncate_invalid_item_id")
        elif at > self.audio_ms[name] or at < 0:
            self.violate(f"truncate at {at} of {self.audio_ms[name]} ms")
            await self.error("invalid_value", f"Audio content of {self.audio_ms[name]} ms is already shorter")
        else:
            self.truncated[name] = at
            await self.send("conversation.item.truncated", item_id=name, content_index=0, audio_end_ms=at)

    # -- hearing -----------------------------------------------------------------------------------------

    async def _hear(self, audio: bytes) -> None:
        if not self.brain.forgetful:
            for _, who, place in stamps(audio):
                self.heard.setdefault(who, []).append(place)
        for _, who, _ in stamps(audio):
            self._turn_tags[who] = None
        self._buffer += audio
        while len(self._buffer) >= FRAME:
            piece, self._buffer = self._buffer[:FRAME], self._buffer[FRAME:]
            self._clock += 20
            if loud(piece):
                self._loud, self._quiet = self._loud + 1, 0
            else:
                self._quiet += 1
                if self._turn_item is None:
                    self._loud = 0
            if self._turn_item is None and self._loud >= 3:
                await self._speech_started()
            elif self._turn_item is not None and self._quiet >= 10:
                await self._speech_stopped()

    async def _speech_started(self) -> None:
        self._turn_item = f"i{next(self.ids)}"
        self.speech_started_at.append(trio.current_time())
        await self.send(
            "input_audio_buffer.speech_started",
            audio_start_ms=max(0, self._clock - 60),
            item_id=self._turn_item,
        )
        vad = self.config.get("audio", {}).get("input", {}).get("turn_detection") or {}
        if vad.get("interrupt_response", True):
            self.cancel()

    async def _speech_stopped(self) -> None:
        item, self._turn_item = self._turn_item, None
        self._loud = 0
        words = " ".join(f"caller turn {who}" for who in self._turn_tags)
        self._turn_tags = {}
        assert item is not None
        await self.send("input_audio_buffer.speech_stopped", audio_end_ms=self._clock, item_id=item)
        await self.send("input_audio_buffer.committed", item_id=item, previous_item_id=None)
        whole = {
            "id": item,
            "type": "message",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        self.items[item] = whole
        self.order.append(item)
        await self.send("conversation.item.added", item=whole, previous_item_id=None)
        await self.send("conversation.item.done", item=whole, previous_item_id=None)
        vad = self.config.get("audio", {}).get("input", {}).get("turn_detection") or {}
        if self.brain.transcripts != "never":
            await self.send(
                "conversation.item.input_audio_transcription.completed",
                item_id=item,
                content_index=0,
                transcript=words,
                usage={"type": "duration", "seconds": 1},
            )
        if vad.get("create_response", True) and self._active_id is None:
            self._start_reply()

    # -- questions of the tests ----------------------------------------------------------------------------

    def told(self) -> list[tuple[str, str]]:
        """What a fresh session was told: (role or kind, text)."""
        out = []
        for event in self.received:
            if event["type"] == "conversation.item.create":
                item = event["item"]
                if item["type"] == "message":
                    text = " ".join(
                        part.get("text") or part.get("transcript") or "" for part in item["content"]
                    )
                    out.append((item["role"], text))
                else:
                    out.append((item["type"], item.get("output") or item.get("arguments", "")))
        return out


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    out = dict(old)
    for key, value in new.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merge(out[key], value) if both else value
    return out


class ModelServer:
    """All brains on one port; the path names the brain."""

    def __init__(self) -> None:
        self.brains: dict[str, Brain] = {}
        self.port = 0
        self.headers: list[dict[str, str]] = []
        self.open_sockets = 0

    async def run(self, *, task_status: trio.TaskStatus[ModelServer]) -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(
                lambda task_status: serve_websocket(
                    self._handle,
                    "127.0.0.1",
                    0,
                    None,
                    max_message_size=1 << 24,
                    disconnect_timeout=0.3,
                    message_queue_size=64,
                    task_status=task_status,
                )
            )
            self.port = server.port
            task_status.started(self)

    async def _handle(self, request: WebSocketRequest) -> None:
        headers = {name.decode().lower(): value.decode() for name, value in request.headers}
        self.headers.append(headers)
        brain = self.brains[request.path.strip("/").split("/")[0].split("?")[0]]
        brain.attempts += 1
        status = brain.refuse(brain.attempts)
        if status is not None:
            await request.reject(status)
            return
        ws = await request.accept()
        self.open_sockets += 1
        try:
            async with trio.open_nursery() as nursery:
                session = Session(brain, ws, nursery)
                brain.sessions.append(session)
                if brain.forgetful and len(brain.sessions) > 300:
                    brain.sessions.pop(0)
                try:
                    await session.run()
                except (
                    ConnectionClosed,
                    trio.BrokenResourceError,
                    trio.ClosedResourceError,
                    OSError,
                ) as error:
                    reason = getattr(error, "reason", None)
                    session.close_code = reason.code if reason else None
                finally:
                    session.closed.set()
                    nursery.cancel_scope.cancel()
        finally:
            self.open_sockets -= 1
