"""The transcript's way to the human's own system."""

from __future__ import annotations

import json
import random

import httpx
import pytest
import trio
import trio.testing

from callrt.telephony.handover import ATTEMPTS_MAX, HandoverFailed, TranscriptPost

ADDRESS = "https://crm.test/hook?key=secret"


class Receiver:
    def __init__(self, *statuses: int | Exception) -> None:
        self.statuses = list(statuses)
        self.bodies: list[bytes] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(request.content)
        status = self.statuses.pop(0) if self.statuses else 200
        if isinstance(status, Exception):
            raise status
        return httpx.Response(status)


def post(receiver: Receiver) -> TranscriptPost:
    return TranscriptPost(rng=random.Random(1), transport=httpx.MockTransport(receiver))


async def test_transcript_arrives_as_json(autojump_clock: trio.testing.MockClock) -> None:
    receiver = Receiver()
    async with post(receiver) as transcripts:
        await transcripts.post(ADDRESS, {"call_sid": "CA7", "transcript": [{"text": "ä"}]})
    assert json.loads(receiver.bodies[0]) == {"call_sid": "CA7", "transcript": [{"text": "ä"}]}


async def test_passing_failures_are_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    receiver = Receiver(503, httpx.ConnectError("down"))
    async with post(receiver) as transcripts:
        await transcripts.post(ADDRESS, {})
    assert len(receiver.bodies) == 3
    assert 0.7 < trio.current_time() < 1.6


@pytest.mark.parametrize(
    ("statuses", "attempts"), [([404] * 9, 1), ([301] * 9, 1), ([500] * 9, ATTEMPTS_MAX)]
)
async def test_lasting_failure_is_told_without_the_address(
    statuses: list[int], attempts: int, autojump_clock: trio.testing.MockClock
) -> None:
    receiver = Receiver(*statuses)
    async with post(receiver) as transcripts:
        with pytest.raises(HandoverFailed) as caught:
            await transcripts.post(ADDRESS, {})
    assert len(receiver.bodies) == attempts
    assert caught.value.status == statuses[0]
    assert "secret" not in f"{caught.value} {caught.value!r}"
