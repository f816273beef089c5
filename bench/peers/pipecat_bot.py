"""pipecat in its documented Twilio and OpenAI Realtime set-up. ``python pipecat_bot.py PORT MODEL_URL``

FastAPI's WebSocket as transport with the Twilio serializer at 8 kHz, the Realtime service with the provider's
turn detection, and a context aggregator on either side. Hanging up by REST, metrics and logs are off.
"""

from __future__ import annotations

import json
import sys

import uvicorn
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.services.openai.realtime import events
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport

PORT, MODEL_URL = int(sys.argv[1]), sys.argv[2].partition("?")[0]
INSTRUCTIONS = "You answer the phone."
logger.remove()
logger.add(sys.stderr, level="ERROR")
app = FastAPI()


def realtime_service() -> OpenAIRealtimeLLMService:
    session = events.SessionProperties(
        audio=events.AudioConfiguration(
            input=events.AudioInput(
                transcription=events.InputAudioTranscription(),
                turn_detection=events.TurnDetection(),
            )
        )
    )
    settings = OpenAIRealtimeLLMService.Settings(
        model="bench", system_instruction=INSTRUCTIONS, session_properties=session
    )
    return OpenAIRealtimeLLMService(api_key="sk-bench", base_url=MODEL_URL, settings=settings)


@app.websocket("/media")
async def call(websocket: WebSocket) -> None:
    await websocket.accept()
    start: dict[str, str] = {}
    while not start:
        message = json.loads(await websocket.receive_text())
        start = message.get("start", {})
    serializer = TwilioFrameSerializer(
        stream_sid=start["streamSid"],
        call_sid=start["callSid"],
        params=TwilioFrameSerializer.InputParams(auto_hang_up=False),
    )
    transport = FastAPIWebsocketTransport(
        websocket=websocket,
        params=FastAPIWebsocketParams(
            audio_in_enabled=True, audio_out_enabled=True, add_wav_header=False, serializer=serializer
        ),
    )
    aggregators = LLMContextAggregatorPair(LLMContext())
    steps = [
        transport.input(),
        aggregators.user(),
        realtime_service(),
        transport.output(),
        aggregators.assistant(),
    ]
    rates = PipelineParams(audio_in_sample_rate=8000, audio_out_sample_rate=8000)
    task = PipelineTask(Pipeline(steps), params=rates)

    @transport.event_handler("on_client_disconnected")
    async def gone(*_: object) -> None:
        await task.cancel()

    await PipelineRunner(handle_sigint=False).run(task)


uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="error", loop="uvloop")
