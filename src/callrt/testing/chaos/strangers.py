"""People who have no business here: they knock at the public port with all sorts of things while calls go on."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping

import attrs
import trio

PATIENCE_SECONDS = 15.0
"""The service's own patience with a half request is shorter."""

Knock = tuple[str, bytes, tuple[int, ...]]
"""(name, what is sent, statuses that are a good answer; none: the door may be shut without a word)."""


def knocks(rng: random.Random) -> list[Knock]:
    big = 70_000
    form = b"CallSid=CA" + b"0" * 32
    return [
        ("random bytes", rng.randbytes(300), ()),
        ("unsigned webhook", _post("/twilio/voice", form), (403,)),
        ("forged webhook", _post("/twilio/voice", form, {"x-twilio-signature": "AAAA"}), (403,)),
        ("webhook without end", _post("/twilio/voice", b"x" * big), (413, 403)),
        ("metrics from outside", b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n", (404,)),
        ("endless header", b"GET / HTTP/1.1\r\nx: " + b"y" * 200_000, (400, 431)),
        ("socket without a token", _upgrade("/twilio/media/nobody"), (403, 404)),
        ("half a request", b"POST /twilio/voice HTTP/1.1\r\nhost: x\r\ncontent-le", ()),
    ]


def _post(path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/x-www-form-urlencoded"]
    lines += [
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _upgrade(path: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "host: x", "upgrade: websocket", "connection: Upgrade"]
    lines += ["sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version: 13"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def _is_good(status: int, wanted: tuple[int, ...]) -> bool:
    return status in wanted if wanted else 400 <= status < 600


@attrs.define(eq=False)
class Strangers:
    port: Callable[[], int]
    count: int
    seed: int = 1
    knocked: Counter[str] = attrs.field(factory=Counter)
    odd: Counter[str] = attrs.field(factory=Counter)
    """Answers that should not have been given, by what they were an answer to."""

    async def run(self) -> None:
        """Until cancelled: ``count`` at once, each again and again."""
        async with trio.open_nursery() as nursery:
            for n in range(self.count):
                nursery.start_soon(self._one, random.Random(f"{self.seed} {n}"))

    async def _one(self, rng: random.Random) -> None:
        while True:
            name, data, wanted = rng.choice(knocks(rng))
            with trio.move_on_after(PATIENCE_SECONDS) as patience:
                status = await self._knock(data)
                if status is not None and not _is_good(status, wanted):
                    self.odd[f"{name}: {status}"] += 1
            if patience.cancelled_caught:
                self.odd[f"{name}: kept waiting"] += 1
            self.knocked[name] += 1
            await trio.sleep(rng.uniform(0.0, 0.4))

    async def _knock(self, data: bytes) -> int | None:
        """The status of the answer; None when the door was shut in our face."""
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", self.port())
        except OSError:
            return None
        async with stream:
            try:
                await stream.send_all(data)
                head = bytes(await stream.receive_some(4096))
            except trio.BrokenResourceError:
                return None
        words = head.split(b" ", 2)
        return int(words[1]) if len(words) > 1 and words[1][:3].isdigit() else None
