"""Gives the human the transcript as text: a POST of JSON to an address of the operator's."""

from __future__ import annotations

import random
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import httpx
import msgspec
import tenacity
import trio

ATTEMPTS_MAX = 3
FIRST_DELAY_SECONDS = 0.5
ATTEMPT_TIMEOUT_SECONDS = 5.0


class HandoverFailed(Exception):
    """The address did not take it. Names the status only: an address may hold a key."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"status {status}" if status is not None else "no answer")
        self.status = status


class TranscriptPost:
    """Posts transcripts, at least once each: the receiver tells repetitions apart by ``call_sid``."""

    def __init__(
        self,
        *,
        rng: random.Random,
        transport: httpx.AsyncBaseTransport | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._rng = rng
        self._client = httpx.AsyncClient(
            transport=transport,
            verify=True if ssl_context is None else ssl_context,
            timeout=ATTEMPT_TIMEOUT_SECONDS,
            follow_redirects=False,
            trust_env=False,
        )

    async def __aenter__(self) -> TranscriptPost:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with trio.CancelScope(deadline=trio.current_time() + 2, shield=True):
            await self._client.__aexit__(kind, error, traceback)

    async def post(self, address: str, payload: Mapping[str, Any]) -> None:
        """Raises :class:`HandoverFailed` after the last attempt. If cancelled: it may have happened."""
        body = msgspec.json.encode(payload)
        retrying = tenacity.AsyncRetrying(
            sleep=trio.sleep,
            stop=tenacity.stop_after_attempt(ATTEMPTS_MAX),
            wait=self._delay,
            retry=tenacity.retry_if_exception(_is_passing),
            reraise=True,
        )
        await retrying(self._once, address, body)

    def _delay(self, state: tenacity.RetryCallState) -> float:
        return float(FIRST_DELAY_SECONDS * 2.0 ** (state.attempt_number - 1) * self._rng.uniform(0.5, 1.0))

    async def _once(self, address: str, body: bytes) -> None:
        try:
            with trio.fail_after(ATTEMPT_TIMEOUT_SECONDS):
                # The answer's body is of no interest and is not read.
                headers = {"content-type": "application/json"}
                async with self._client.stream("POST", address, content=body, headers=headers) as response:
                    status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, trio.TooSlowError):
            raise HandoverFailed(None) from None
        if not 200 <= status < 300:
            raise HandoverFailed(status)


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, HandoverFailed) and (
        error.status is None or error.status == 429 or error.status >= 500
    )
