"""A bare bridge for comparison: trio and trio-websocket's message API on both sides. It guarantees nothing.

``python trio_messages.py PORT MODEL_URL``
"""

from __future__ import annotations

import json
import ssl
import sys

import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    open_websocket_url,
    serve_websocket,
)


async def carrier_to_model(carrier: WebSocketConnection, model: WebSocketConnection) -> None:
    while True:
        message = json.loads(await carrier.get_message())
        if message["event"] == "media":
            audio = message["media"]["payload"]
            await model.send_message(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        elif message["event"] == "stop":
            return


async def model_to_carrier(carrier: WebSocketConnection, model: WebSocketConnection, stream_sid: str) -> None:
    while True:
        message = json.loads(await model.get_message())
        match message["type"]:
            case "response.output_audio.delta":
                media = {"payload": message["delta"]}
                await carrier.send_message(
                    json.dumps({"event": "media", "streamSid": stream_sid, "media": media})
                )
                mark = {"name": message["item_id"]}
                await carrier.send_message(
                    json.dumps({"event": "mark", "streamSid": stream_sid, "mark": mark})
                )
            case "input_audio_buffer.speech_started":
                await carrier.send_message(json.dumps({"event": "clear", "streamSid": stream_sid}))


async def bridge(request: WebSocketRequest, url: str, context: ssl.SSLContext | None) -> None:
    carrier = await request.accept()
    try:
        while (start := json.loads(await carrier.get_message()))["event"] != "start":
            pass
        async with open_websocket_url(url, ssl_context=context) as model:
            form = {"type": "audio/pcmu"}
            audio = {
                "input": {"format": form, "turn_detection": {"type": "server_vad"}},
                "output": {"format": form},
            }
            session = {"type": "realtime", "instructions": "You answer the phone.", "audio": audio}
            await model.send_message(json.dumps({"type": "session.update", "session": session}))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(model_to_carrier, carrier, model, start["streamSid"])
                await carrier_to_model(carrier, model)
                nursery.cancel_scope.cancel()
    except* ConnectionClosed:
        pass  # the other end has hung up


async def main(port: int, url: str) -> None:
    context = ssl.create_default_context() if url.startswith("wss") else None

    async def handle(request: WebSocketRequest) -> None:
        await bridge(request, url, context)

    await serve_websocket(handle, "127.0.0.1", port, None)


trio.run(main, int(sys.argv[1]), sys.argv[2])
