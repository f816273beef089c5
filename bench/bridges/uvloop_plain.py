"""A bare bridge for comparison: uvloop, websockets and orjson, as a careful tutorial would do it.

It guarantees nothing. ``python uvloop_plain.py PORT MODEL_URL``
"""

from __future__ import annotations

import asyncio
import ssl
import sys

import orjson
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

URL = sys.argv[2]
CONTEXT = ssl.create_default_context() if URL.startswith("wss") else None


async def carrier_to_model(carrier: ServerConnection, model: ClientConnection) -> None:
    async for raw in carrier:
        message = orjson.loads(raw)
        if message["event"] == "media":
            append = {"type": "input_audio_buffer.append", "audio": message["media"]["payload"]}
            await model.send(orjson.dumps(append), text=True)
        elif message["event"] == "stop":
            return


async def model_to_carrier(carrier: ServerConnection, model: ClientConnection, stream_sid: str) -> None:
    async for raw in model:
        message = orjson.loads(raw)
        match message["type"]:
            case "response.output_audio.delta":
                media = {"event": "media", "streamSid": stream_sid, "media": {"payload": message["delta"]}}
                await carrier.send(orjson.dumps(media), text=True)
                mark = {"event": "mark", "streamSid": stream_sid, "mark": {"name": message["item_id"]}}
                await carrier.send(orjson.dumps(mark), text=True)
            case "input_audio_buffer.speech_started":
                await carrier.send(orjson.dumps({"event": "clear", "streamSid": stream_sid}), text=True)


async def bridge(carrier: ServerConnection) -> None:
    try:
        while (start := orjson.loads(await carrier.recv()))["event"] != "start":
            pass
        async with connect(URL, compression=None, ssl=CONTEXT) as model:
            form = {"type": "audio/pcmu"}
            audio = {
                "input": {"format": form, "turn_detection": {"type": "server_vad"}},
                "output": {"format": form},
            }
            session = {"type": "realtime", "instructions": "You answer the phone.", "audio": audio}
            await model.send(orjson.dumps({"type": "session.update", "session": session}), text=True)
            down = asyncio.create_task(model_to_carrier(carrier, model, start["streamSid"]))
            try:
                await carrier_to_model(carrier, model)
            finally:
                down.cancel()
    except ConnectionClosed:
        return


async def main() -> None:
    async with serve(bridge, "127.0.0.1", int(sys.argv[1]), compression=None):
        await asyncio.get_running_loop().create_future()


uvloop.run(main())
