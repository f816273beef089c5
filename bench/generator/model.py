"""One model session that listens, and answers by script: six seconds at four times real time.

Every second answer is cut off by the caller after three seconds or so. Event names and fields are those of the
Realtime API; whatever a client is sent here, the real one sends too.
"""

from __future__ import annotations

import itertools
import re
import socket
import ssl
from binascii import a2b_base64, b2a_base64

import msgspec

from generator import audio
from generator.phone import REPLY_MS, Caller, Calls
from generator.shortcuts import AUDIO_DELTA, TEXT_DELTA, StampPlace
from generator.sockets import Socket, accept_key, header, xor
from generator.world import World, now

DELTA_MS = 200
PACE = 4
ANSWER_AFTER = 0.8
FIRST_ANSWER_AFTER = 0.1
WHOLE_TURN, CUT_TURN = 8.0, 4.0
LISTENS = 0.02
"""From a session's first frame to its first answer: the model's own time at the start of a call."""
FIRST_TURN_MIN = 2.0
"""Seconds: the answer with which a call begins has time to arrive."""
HEAD = 128
"""Bytes of a message within which the audio begins."""

_AUDIO = re.compile(rb'"audio": ?"')
_SPEECH = b2a_base64(b"\x71" * (DELTA_MS * 8), newline=False)
_QUIET_PCM = b"\x00\x00" * audio.FRAME_SAMPLES
_QUIET = b2a_base64(_QUIET_PCM * (DELTA_MS // 20), newline=False)
_LOUD_ONCE = b2a_base64(audio.LOUD_PCM + _QUIET_PCM * (DELTA_MS // 20 - 1), newline=False)


def first_turn(call: int) -> tuple[float, bool]:
    """Its length, and whether it stands for a whole one.

    Each call begins somewhere in the middle of the script, so that from the first second on as much is said, and cut
    off, as ever after: programs are measured soon after their calls began.
    """
    place = call * 0.6180339 % 1.0 * (WHOLE_TURN + CUT_TURN)
    whole = place < WHOLE_TURN
    seconds = (WHOLE_TURN if whole else WHOLE_TURN + CUT_TURN) - place
    if seconds >= FIRST_TURN_MIN:
        return seconds, whole
    return seconds + (CUT_TURN if whole else WHOLE_TURN), not whole


class Model(Socket):
    def __init__(self, world: World, calls: Calls, sock: socket.socket) -> None:
        self.world = world
        self.calls = calls
        self.caller: Caller | None = None
        self.own_time = 0.0
        self.expected = 0
        self.appended_ms = 0
        self.turn = 0
        self.whole = False
        self.turn_seconds = 0.0
        self.reply = 0
        self.deltas = 0
        self.events = itertools.count(1)
        self.cut_at = 0.0
        self.spoke_at = 0.0
        self.open = True
        self.responding = False
        self.last_item: str | None = None
        self.reader = audio.BeaconReader()
        self.beacons_heard = 0
        self.pcm = True
        self.handshaking = world.tls is not None
        self.place = StampPlace()
        super().__init__(world, sock)

    def readable(self) -> None:
        if self.handshaking:
            try:
                self.sock.do_handshake()  # type: ignore[attr-defined]
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError:
                self.ended()
                return
            self.handshaking = False
        super().readable()

    def head(self, data: bytes) -> bytes:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return data
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", data)
        if key is None:
            # The carrier's REST interface, asked about a call that has died.
            body = b'{"status":"completed"}'
            self.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
            self.send(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            self.ended()
            return b""
        self.upgraded = True
        self.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(key[1]) + b"\r\n\r\n"
        )
        self.say({"type": "session.created", "session": self._session({})})
        return self.frames(data[end + 4 :])

    def _session(self, asked: dict[str, object]) -> dict[str, object]:
        return {"type": "realtime"} | asked | {"id": "sess_1", "object": "realtime.session", "model": "bench"}

    def say(self, message: dict[str, object]) -> None:
        message["event_id"] = f"event_{next(self.events)}"
        self._say(msgspec.json.encode(message))

    def _say(self, payload: bytes) -> None:
        self.send(header(1, len(payload), 0) + payload)

    def control(self, opcode: int, payload: bytes) -> None:
        self.send(header(opcode, len(payload), 0) + payload)

    # -- what comes in -----------------------------------------------------------------------------------

    def short(self, data: bytes) -> bool:
        t = now()
        stamp = self.place.find(data)
        caller = self.caller
        if stamp is None or caller is None or stamp[0] != caller.number or not caller.live:
            return False
        _, _, frame, sent_at = stamp
        window = self.world.window
        window.up.append(t - sent_at)
        if frame > self.expected > 0:
            window.lost_up += frame - self.expected
        self.expected = frame + 1
        self.appended_ms += 20
        return True

    def message(self, payload: bytes, mask: bytes) -> None:
        head = payload[:HEAD]
        if mask:
            head = xor(head, mask)
        found = None if b"item" in head else _AUDIO.search(head)
        if found is not None:
            self._hear(payload, mask, head, found.end())
            return
        message = msgspec.json.decode(xor(payload, mask) if mask else payload)
        match message.get("type"):
            case "session.update":
                self._configure(message["session"])
            case "conversation.item.truncate":
                fields = ("item_id", "content_index", "audio_end_ms")
                self.say({"type": "conversation.item.truncated"} | {f: message[f] for f in fields})
            case "conversation.item.create":
                item = {"status": "completed", "object": "realtime.item"} | message["item"]
                self._item(item)
            case "response.cancel":
                if self.responding:
                    self._done("cancelled")

    def _configure(self, asked: dict[str, object]) -> None:
        form = asked
        for key in ("audio", "output", "format"):
            form = form.get(key) or {}  # type: ignore[assignment]
        if "type" in form:
            self.pcm = form["type"] == "audio/pcm"
        self.say({"type": "session.updated", "session": self._session(asked)})

    def _hear(self, payload: bytes, mask: bytes, head: bytes, at: int) -> None:
        t = now()
        if self.world.plan.beacon:
            whole = xor(payload, mask) if mask else payload
            self._hear_pcm(a2b_base64(whole[at : whole.find(b'"', at)]), t)
            return
        if len(payload) < at + 280:
            stamps = audio.stamps_in(a2b_base64(head[at : at + audio.STAMP_CHARS]))
            self.appended_ms += 20
            if mask and head.startswith(audio.MAGIC_TEXT, at):
                self.place.learn(head[:at], len(payload))
                self.usual = self.place.size
        else:
            # Several frames in one message: waiting for the last one is the program's choice, so that one counts.
            whole = xor(payload, mask) if mask else payload
            sound = a2b_base64(whole[at : whole.find(b'"', at)])
            stamps = audio.stamps_in(sound)
            self.appended_ms += len(sound) // 8
        if not stamps:
            return
        call, _, frame, sent_at = stamps[-1]
        if call not in self.calls.live:
            return  # a call that was killed: what it had said is told to a new session, rightly late
        self.world.window.up.append(t - sent_at)
        if self.expected:
            self.world.window.lost_up += max(0, stamps[0][2] - self.expected)
        self.expected = frame + 1
        if self.caller is None:
            self._bind(call)

    def _hear_pcm(self, pcm: bytes, t: float) -> None:
        self.appended_ms += len(pcm) // 48
        begun, missing = self.reader.push(pcm, t)
        if self.caller is None:
            if self.reader.call is not None:
                self._bind(self.reader.call)
                if self.caller is not None:
                    sent = [at for at in self.caller.beacons if at <= self.reader.first_onset]  # type: ignore[unreachable]
                    self.beacons_heard = len(sent)
            return
        if not begun:
            return
        window = self.world.window
        window.lost_up += max(0, round(missing / audio.FRAME_SAMPLES))
        if self.beacons_heard < len(self.caller.beacons):
            window.up.append(t - self.caller.beacons[self.beacons_heard])
            self.beacons_heard += 1

    def _bind(self, call: int) -> None:
        caller = self.calls.live.get(call)
        if caller is None or caller.model is not None:
            return
        self.caller = caller
        caller.model = self
        self.world.at(now() + LISTENS, self._caller_speaks)

    # -- the script --------------------------------------------------------------------------------------

    def _caller_speaks(self) -> None:
        caller = self.caller
        if not self.open or caller is None or not caller.live:
            return
        t = now()
        if caller.speaking or caller.buffer_end > t + 0.1:
            self.cut_at = t
        if self.reply and self.turn_seconds >= WHOLE_TURN and caller.heard_ms < REPLY_MS:
            self.world.window.lost_down_ms += REPLY_MS - caller.heard_ms
        self.turn += 1
        if self.turn == 1:
            self.turn_seconds, self.whole = first_turn(caller.number)
        else:
            self.whole = not self.whole
            self.turn_seconds = WHOLE_TURN if self.whole else CUT_TURN
        self.spoke_at = 0.0
        self.say(
            {
                "type": "input_audio_buffer.speech_started",
                "item_id": f"u{self.turn}",
                "audio_start_ms": self.appended_ms,
            }
        )
        if self.responding:
            self._done("cancelled")
        self.world.at(t + (FIRST_ANSWER_AFTER if self.turn == 1 else ANSWER_AFTER), self._answer)
        self.world.at(t + self.turn_seconds, self._caller_speaks)

    def _answer(self) -> None:
        if not self.open:
            return
        if self.turn == 1:
            reading = audio.NUMBER_SECONDS if self.world.plan.beacon else 0.0
            self.own_time = LISTENS + FIRST_ANSWER_AFTER + reading
        item = f"u{self.turn}"
        self.reply += 1
        self.deltas = 0
        self.cut_at = 0.0
        self.responding = True
        self.say(
            {"type": "input_audio_buffer.speech_stopped", "item_id": item, "audio_end_ms": self.appended_ms}
        )
        self.say(
            {"type": "input_audio_buffer.committed", "item_id": item, "previous_item_id": self.last_item}
        )
        heard: list[object] = [{"type": "input_audio", "transcript": None}]
        self._item(self._message(item, "user", "completed", heard))
        self.say(
            {
                "type": "conversation.item.input_audio_transcription.completed",
                "item_id": item,
                "content_index": 0,
                "transcript": "could I have an appointment on Tuesday please",
                "usage": {"type": "duration", "seconds": 2},
            }
        )
        self.say({"type": "response.created", "response": self._response("in_progress", [])})
        said = self._message(f"a{self.reply}", "assistant", "in_progress", [])
        place = {"response_id": f"r{self.reply}", "output_index": 0}
        self.say({"type": "response.output_item.added", "item": said} | place)
        self._item(said, done=False)
        self._delta()

    def _delta(self) -> None:
        caller = self.caller
        if not self.open or not self.responding or caller is None or not caller.live:
            return
        if self.deltas * DELTA_MS >= REPLY_MS:
            self._done("completed")
            return
        reply = self.reply
        if self.deltas % 3 == 0:
            self._say(TEXT_DELTA % (b"we are open ", reply, reply, next(self.events)))
        self._say(AUDIO_DELTA % (self._sound(caller), reply, reply, next(self.events)))
        self.deltas += 1
        self.world.at(now() + DELTA_MS / 1000 / PACE, self._delta)

    def _sound(self, caller: Caller) -> bytes:
        """The next piece of the reply, as base64."""
        if self.pcm != self.world.plan.beacon:
            raise SystemExit(f"the model was asked for {'PCM' if self.pcm else 'mu-law'}: see --beacon")
        if self.pcm:
            if self.deltas:
                return _QUIET
            self.spoke_at = now()
            return _LOUD_ONCE
        if self.deltas:
            return _SPEECH
        head = audio.stamp(caller.number, self.reply, 0, now())
        return b2a_base64(head + b"\x71" * (DELTA_MS * 8 - len(head)), newline=False)

    def _done(self, status: str) -> None:
        self.responding = False
        response, said = f"r{self.reply}", f"a{self.reply}"
        place = {"response_id": response, "item_id": said, "output_index": 0, "content_index": 0}
        words = "we are open all day and would be glad to see you " * 2
        whole = status == "completed"
        item = self._message(
            said,
            "assistant",
            "completed" if whole else "incomplete",
            [{"type": "output_audio", "transcript": words}],
        )
        self.say({"type": "response.output_audio.done"} | place)
        self.say({"type": "response.output_audio_transcript.done", "transcript": words} | place)
        outer = {"response_id": response, "output_index": 0, "item": item}
        self.say({"type": "response.output_item.done"} | outer)
        self.say({"type": "conversation.item.done", "item": item, "previous_item_id": None})
        self.say({"type": "response.done", "response": self._response(status, [item])})

    def _item(self, item: dict[str, object], *, done: bool = True) -> None:
        before, self.last_item = self.last_item, str(item.get("id", ""))
        self.say({"type": "conversation.item.added", "item": item, "previous_item_id": before})
        if done:
            self.say({"type": "conversation.item.done", "item": item, "previous_item_id": before})

    def _message(self, item: str, role: str, status: str, content: list[object]) -> dict[str, object]:
        return {
            "id": item,
            "object": "realtime.item",
            "type": "message",
            "role": role,
            "status": status,
            "content": content,
        }

    def _response(self, status: str, output: list[object]) -> dict[str, object]:
        details = None
        if status == "cancelled":
            details = {"type": "cancelled", "reason": "turn_detected"}
        return {
            "id": f"r{self.reply}",
            "object": "realtime.response",
            "status": status,
            "status_details": details,
            "output": output,
            "output_modalities": ["audio"],
        }

    def ended(self) -> None:
        self.open = False
        super().ended()

    def reset(self) -> None:
        self.open = False
        super().reset()
