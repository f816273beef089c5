"""The emulated model behind real sockets: our own client, and the vendor's."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import openai
import pytest
import trio
from testing_model_helpers import (
    BOOKED,
    GREETING,
    HEADERS,
    SILENCE,
    Client,
    check_server_event,
    emulated,
    utterance,
)

from callrt.errors import CallrtError
from callrt.testing.model_core import ModelOptions
from callrt.testing.model_faults import Fault, Trigger
from callrt.testing.model_reply import Pace
from callrt.testing.model_script import ScriptError, load_script
from callrt.testing.model_server import EmulatedModel, run
from callrt.testing.speech import beeps
from callrt.wire.transport import TransportClosed
from callrt.wire.websocket import UpgradeRefused, open_client

FAST = ModelOptions(pace=Pace(rate=(50, 100), think_seconds=0.02), transcription_seconds=0.01)


@asynccontextmanager
async def listening(model: EmulatedModel) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        port = await nursery.start(model.listen)
        yield f"127.0.0.1:{port}/v1/realtime"
        nursery.cancel_scope.cancel()


async def test_session_over_a_real_socket_speaks_and_hears() -> None:
    model = emulated(options=FAST)
    with trio.fail_after(30):
        async with listening(model) as address:
            async with open_client(f"ws://{address}?model=gpt-realtime-2.1", HEADERS) as transport:
                client = Client(transport, None)  # type: ignore[arg-type]
                await client.configure()
                client.append(utterance("I need an appointment") + SILENCE * 40)
                done = await client.until("response.done")
                assert done["response"]["status"] == "completed"
                (item,) = model.sessions[0].spoken
                assert client.audio_of(item.id) == bytes(item.audio)
            await _until_idle(model)
            assert model.sessions[0].lost == (1000, "")


async def _until_idle(model: EmulatedModel) -> None:
    while model.live:  # a real socket's end has no event to wait for
        await trio.sleep(0.01)


async def test_refusal_over_a_real_socket_says_when_to_come_back() -> None:
    model = emulated(Fault("refuse", status=429, retry_after=3.0))
    with trio.fail_after(30):
        async with listening(model) as address:
            for headers, status, wait in ((HEADERS, 429, 3.0), ((), 401, None)):
                with pytest.raises(UpgradeRefused) as caught:
                    async with open_client(f"ws://{address}?model=x", headers):
                        pass
                assert (caught.value.status, caught.value.retry_after) == (status, wait)


@pytest.mark.parametrize(
    ("fault", "code"), [(Fault("abort"), None), (Fault("close", code=1011, reason="keepalive"), 1011)]
)
async def test_end_over_a_real_socket_is_a_reset_or_a_close(fault: Fault, code: int | None) -> None:
    model = emulated(attrs.evolve(fault, at=Trigger(audio_ms=400)), options=FAST)
    with trio.fail_after(30):
        async with (
            listening(model) as address,
            open_client(f"ws://{address}?model=x", HEADERS) as transport,
        ):
            client = Client(transport, None)  # type: ignore[arg-type]
            await client.configure()
            client.send("response.create", response={"instructions": f'say exactly: "{GREETING}"'})
            end = await _end(client)
            assert end.code in ((None, 1006) if code is None else (code,))
            assert end.by_peer
            assert model.sessions[0].spoken[0].sent_ms == 400


async def _end(client: Client) -> TransportClosed:
    while True:
        try:
            await client.next()
        except TransportClosed as end:
            return end


async def test_frozen_real_socket_neither_answers_nor_ends() -> None:
    model = emulated(Fault("freeze", Trigger(event="session.updated")), options=FAST)
    with trio.fail_after(30):
        async with (
            listening(model) as address,
            open_client(f"ws://{address}?model=x", HEADERS) as transport,
        ):
            client = Client(transport, None)  # type: ignore[arg-type]
            client.send("session.update", session={"type": "realtime"})
            await client.next()
            with trio.move_on_after(0.5) as limit:
                while True:
                    await client.next()
            assert limit.cancelled_caught
            with trio.move_on_after(0.3) as limit:
                await transport.ping()
            assert limit.cancelled_caught
            transport.abort()


# -- the vendor's client ------------------------------------------------------------------------------


async def _vendor_session(base: str) -> list[dict[str, Any]]:
    """One call with a tool, as the vendor's documentation has it; runs under asyncio."""
    client = openai.AsyncOpenAI(
        api_key="sk-test", base_url=f"http://{base}", websocket_base_url=f"ws://{base}"
    )
    events: list[dict[str, Any]] = []
    async with client.realtime.connect(model="gpt-realtime-2.1") as connection:

        async def until(kind: str) -> Any:
            async for event in connection:
                events.append(event.to_dict())
                if event.type == kind:
                    return event
                assert event.type != "error", event
            raise AssertionError(f"the session ended before {kind}")

        await until("session.created")
        await connection.session.update(
            session={
                "type": "realtime",
                "output_modalities": ["audio"],
                "instructions": "You answer the phone for a clinic.",
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcmu"},
                        "transcription": {"model": "gpt-4o-transcribe"},
                        "turn_detection": {"type": "server_vad", "silence_duration_ms": 300},
                    },
                    "output": {"format": {"type": "audio/pcmu"}, "voice": "marin"},
                },
                "tools": [{"type": "function", "name": "book_appointment", "parameters": {"type": "object"}}],
            }
        )
        await until("session.updated")
        sound = utterance("Yes please book it for me") + SILENCE * 30
        for at in range(0, len(sound), 1600):
            await connection.input_audio_buffer.append(audio=base64.b64encode(sound[at : at + 1600]).decode())
        done = await until("response.done")
        call = next(item for item in done.response.output if item.type == "function_call")
        assert json.loads(call.arguments) == {"day": "tuesday", "hour": 15}
        await connection.conversation.item.create(
            item={"type": "function_call_output", "call_id": call.call_id, "output": '{"ok": true}'}
        )
        await connection.response.create()
        await until("response.done")
    await client.close()
    return events


async def test_the_vendors_own_client_completes_a_call_with_a_tool() -> None:
    model = emulated(options=FAST)
    with trio.fail_after(60):
        async with listening(model) as address:
            base = address.removesuffix("/realtime")
            events = await trio.to_thread.run_sync(lambda: asyncio.run(_vendor_session(base)))
    for event in events:
        check_server_event(event)
    spoken = [
        event["transcript"] for event in events if event["type"] == "response.output_audio_transcript.done"
    ]
    assert spoken == ["One second.", BOOKED]
    heard = [
        event["transcript"]
        for event in events
        if event["type"] == "conversation.item.input_audio_transcription.completed"
    ]
    assert heard == ["Yes please book it for me"]
    assert model.sessions[0].refused == []


# -- scripts, and the standing program ----------------------------------------------------------------

SCRIPT = """
lines = ["Hello there."]
[[turn]]
caller = "I need an appointment"
answer = "Tuesday at three."
[[turn]]
caller = "Yes"
before_tool = "One second."
tool = { name = "book", arguments = { day = "tuesday" } }
answer = ["Booked.", "See you."]
[[fault]]
kind = "close"
code = 1012
at = { connection = 1, audio_ms = 1500 }
"""


def test_script_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "clinic.toml"
    path.write_text(SCRIPT)
    brain, faults = load_script(path, beeps)
    assert [turn.answers for turn in brain.turns] == [("Tuesday at three.",), ("Booked.", "See you.")]
    assert brain.turns[1].tool is not None
    assert json.loads(brain.turns[1].tool.arguments) == {"day": "tuesday"}
    assert brain.turns[0].audio == beeps("I need an appointment")
    assert faults == (Fault("close", Trigger(connection=1, audio_ms=1500), code=1012),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("turn = 3", "[[turn]]"),
        ("[[turn]]\ncaller = 'x'", "answer"),
        ("[[turn]]\nanswer = 'x'", "caller"),
        ("[[turn]]\ncaller = 'x'\nanswer = 'y'\nvoice = 'z'", "'voice'"),
        ("[[fault]]\nkind = 'explode'", "one of"),
        ("[[fault]]\nkind = 'close'\nat = { after = 3 }", "'after'"),
        ("[[fault]]\nkind = 'close'\nat = { seconds = 3, audio_ms = 4 }", "at most one"),
        ("x = ", "not TOML"),
    ],
)
def test_wrong_script_is_one_sentence_that_names_the_file(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ScriptError) as caught:
        load_script(path, beeps)
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_standing_program_serves_a_scripted_session(tmp_path: Path) -> None:
    path = tmp_path / "clinic.toml"
    path.write_text(SCRIPT)
    program = (
        "import sys, pathlib; from callrt.testing.model_server import run; "
        "sys.exit(run(port=0, script=pathlib.Path(sys.argv[1]), say=lambda line: print(line, flush=True)))"
    )
    with trio.fail_after(60):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            line = (await process.stdout.receive_some(4096)).decode()
            url = line.split(" on ")[1].strip()
            async with open_client(f"{url}?model=gpt-realtime-2.1", HEADERS) as transport:
                client = Client(transport, None)  # type: ignore[arg-type]
                created = await client.next()
                assert created["type"] == "session.created"
                client.send("response.create", response={"instructions": 'say exactly: "Hello there."'})
                await client.until("response.done")
        finally:
            process.terminate()
            await process.wait()


def test_port_that_is_taken_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(CallrtError) as caught:
        run(port=taken.getsockname()[1], say=lambda line: None)
    assert caught.value.exit_status == 1
    assert "cannot listen on" in str(caught.value)
