"""Gives the human the transcript as text: a POST of JSON to an address of the operator's."""

from __future__ import annotations

import random
import ssl
from collections.abc import Mapping
from typing import Any

import httpx
import msgspec
import trio

from callrt.telephony.outbound import LIMITS, Outbound

ATTEMPTS_MAX = 3
FIRST_DELAY_SECONDS = 0.5
CAP_SECONDS = 4.0
ATTEMPT_TIMEOUT_SECONDS = 5.0


class HandoverFailed(Exception):
    """The address did not take it. Names the status only: an address may hold a key."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"status {status}" if status is not None else "no answer")
        self.status = status


class TranscriptPost(Outbound):
    """Posts transcripts, at least once each: the receiver tells repetitions apart by ``call_sid``."""

    def __init__(
        self,
        *,
        rng: random.Random,
        transport: httpx.AsyncBaseTransport | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        client = httpx.AsyncClient(
            transport=transport,
            verify=True if ssl_context is None else ssl_context,
            timeout=ATTEMPT_TIMEOUT_SECONDS,
            limits=LIMITS,
            follow_redirects=False,
            trust_env=False,
        )
        super().__init__(client, rng)

    async def post(self, address: str, payload: Mapping[str, Any]) -> None:
        """Raises :class:`HandoverFailed` after the last attempt. If cancelled: it may have happened."""
        body = msgspec.json.encode(payload)
        retrying = self._retrying(
            _is_passing, attempts=ATTEMPTS_MAX, first=FIRST_DELAY_SECONDS, cap=CAP_SECONDS
        )
        await retrying(self._once, address, body)

    async def _once(self, address: str, body: bytes) -> None:
        try:
            headers = {"content-type": "application/json"}
            async with self._places:
                with trio.fail_after(ATTEMPT_TIMEOUT_SECONDS):
                    # The answer's body is of no interest and is not read.
                    async with self._client.stream(
                        "POST", address, content=body, headers=headers
                    ) as response:
                        status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, trio.TooSlowError):
            raise HandoverFailed(None) from None
        if not 200 <= status < 300:
            raise HandoverFailed(status)


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, HandoverFailed) and (
        error.status is None or error.status == 429 or error.status >= 500
    )
