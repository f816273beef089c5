"""openai-agents in its documented Twilio set-up. ``python openai_agents_bot.py PORT MODEL_URL``

FastAPI, one realtime session per media socket, mu-law both ways; 50 ms are gathered before they are sent on,
each delta gets a mark, and marks that come back are played to the session's playback tracker.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys

import uvicorn
from agents.realtime import RealtimeAgent, RealtimePlaybackTracker, RealtimeRunner, RealtimeSession
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from agents import set_tracing_disabled

PORT, MODEL_URL = int(sys.argv[1]), sys.argv[2]
GATHER = 400
"""Bytes: 50 ms."""
AGENT = RealtimeAgent(name="bench", instructions="You answer the phone.")
set_tracing_disabled(True)
app = FastAPI()


class Call:
    def __init__(
        self, websocket: WebSocket, session: RealtimeSession, tracker: RealtimePlaybackTracker
    ) -> None:
        self.websocket = websocket
        self.session = session
        self.tracker = tracker
        self.stream_sid = ""
        self.marks: dict[str, tuple[str, int, int]] = {}
        self.marked = 0
        self.to_carrier = bytearray()
        self.unsent_marks: list[str] = []

    async def from_carrier(self) -> None:
        gathered = bytearray()
        while True:
            message = json.loads(await self.websocket.receive_text())
            match message["event"]:
                case "start":
                    self.stream_sid = message["start"]["streamSid"]
                case "media":
                    gathered += base64.b64decode(message["media"]["payload"])
                    if len(gathered) >= GATHER:
                        await self.session.send_audio(bytes(gathered))
                        gathered.clear()
                case "mark":
                    played = self.marks.pop(message["mark"]["name"], None)
                    if played is not None:
                        item, index, size = played
                        self.tracker.on_play_bytes(item, index, bytes(size))
                case "stop":
                    return

    async def from_model(self) -> None:
        async for event in self.session:
            if event.type == "audio":
                self.to_carrier += event.audio.data
                self.marked += 1
                name = str(self.marked)
                self.marks[name] = (event.audio.item_id, event.audio.content_index, len(event.audio.data))
                self.unsent_marks.append(name)
                if len(self.to_carrier) >= GATHER:
                    await self.flush()
            elif event.type == "audio_end":
                await self.flush()
            elif event.type == "audio_interrupted":
                await self.flush()
                await self.tell({"event": "clear"})

    async def flush(self) -> None:
        if self.to_carrier:
            await self.tell(
                {"event": "media", "media": {"payload": base64.b64encode(self.to_carrier).decode()}}
            )
            self.to_carrier.clear()
        for name in self.unsent_marks:
            await self.tell({"event": "mark", "mark": {"name": name}})
        self.unsent_marks.clear()

    async def tell(self, message: dict[str, object]) -> None:
        await self.websocket.send_text(json.dumps(message | {"streamSid": self.stream_sid}))


@app.websocket("/media")
async def media(websocket: WebSocket) -> None:
    tracker = RealtimePlaybackTracker()
    session = await RealtimeRunner(AGENT).run(
        model_config={
            "api_key": "sk-bench",
            "url": MODEL_URL,
            "initial_model_settings": {
                "input_audio_format": "g711_ulaw",
                "output_audio_format": "g711_ulaw",
                "turn_detection": {
                    "type": "semantic_vad",
                    "interrupt_response": True,
                    "create_response": True,
                },
            },
            "playback_tracker": tracker,
        }
    )
    async with session:
        await websocket.accept()
        call = Call(websocket, session, tracker)
        speaking = asyncio.create_task(call.from_model())
        try:
            await call.from_carrier()
        except WebSocketDisconnect:
            pass  # the carrier has hung up
        finally:
            speaking.cancel()


uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="error", loop="uvloop")
