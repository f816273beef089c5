"""What our requests to others have in common: a client that is closed in bounded time, and patience with jitter."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx
import tenacity
import trio

CLOSE_SECONDS = 2.0

CONNECTIONS_MAX = 32
"""At once, to all addresses. With an answer after 150 ms that is 200 requests a second: when a carrier's site fails,
all calls have something to ask within the same seconds."""

LIMITS = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=8)


class Outbound:
    """Owns an HTTP client, as an async context manager. If cancelled while leaving: it is closed all the same."""

    def __init__(self, client: httpx.AsyncClient, rng: random.Random) -> None:
        self._client = client
        self._rng = rng
        self._places = trio.CapacityLimiter(CONNECTIONS_MAX)
        """To be held during an attempt. The client has a queue of its own, but looks through all of it for each
        request that comes or goes: with 400 requests that took a second of the calls' time for every 75."""

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with trio.CancelScope(deadline=trio.current_time() + CLOSE_SECONDS, shield=True):
            await self._client.__aexit__(kind, error, traceback)

    def _retrying(
        self, passing: Callable[[BaseException], bool], *, attempts: int, first: float, cap: float
    ) -> tenacity.AsyncRetrying:
        """Tries again what is ``passing``: delays in seconds double from the first up to the cap, half of each by
        chance."""

        def delay(state: tenacity.RetryCallState) -> float:
            longest: float = min(first * 2.0 ** (state.attempt_number - 1), cap)
            return longest * self._rng.uniform(0.5, 1.0)

        return tenacity.AsyncRetrying(
            sleep=trio.sleep,
            stop=tenacity.stop_after_attempt(attempts),
            wait=delay,
            retry=tenacity.retry_if_exception(passing),
            reraise=True,
        )
