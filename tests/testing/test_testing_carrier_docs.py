"""The example of docs/emulated-carrier.md, run as it stands, in memory and virtual time."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from carrier_helpers import STREAM, Socket, app, document
from trio.testing import MockClock

from callrt.testing.carrier import Carrier
from callrt.testing.speech import beeps

PAGE = Path(__file__).parents[2] / "docs" / "emulated-carrier.md"
REPLY = beeps("a reply that is long enough to be interrupted by a caller who has changed his mind")


async def reply_to_everything(socket: Socket) -> None:
    """Greets; speaks again when the caller has been silent for half a second after words."""
    socket.play(REPLY, "end")
    quiet = 0
    while True:
        await trio.sleep(0.02)
        media = socket.events("media")
        loud = bool(media) and media[-1]["media"]["payload"].count("/") < 200
        quiet = 0 if loud else quiet + 1
        if quiet == 25 and any(message["media"]["payload"].count("/") < 200 for message in media):
            socket.play(REPLY, "end")


async def test_example_of_the_page_runs(autojump_clock: MockClock) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec", dont_inherit=True), names)
    placed: list[Carrier] = []
    async with app(reply_to_everything) as server:
        server.documents["action"] = document(STREAM)

        @asynccontextmanager
        async def in_memory(voice_url: str, **options: Any) -> AsyncIterator[Carrier]:
            assert options == {"auth_token": "token"}
            placed.append(server.carrier())
            yield placed[0]

        names["open_carrier"] = in_memory
        with trio.fail_after(120):
            await names["one_call"]("http://app.test/voice", "token")
    (call,) = placed[0].calls.values()
    assert len(call.streams) == 2  # the reset of the example struck, and the call went on
