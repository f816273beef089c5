"""Health: alive is one thing, ready for calls another."""

from __future__ import annotations

import attrs
import trio

from callrt.journal import Journal, JournalUnavailable
from callrt.service.http import HttpRequest, HttpResponse

PING_TIMEOUT_SECONDS = 2.0
PING_EVERY_SECONDS = 1.0
"""Readiness commits an empty write; asked more often, the last answer stands."""


@attrs.define
class Health:
    """What the two health addresses say. ``refusing``: a short reason, set when draining begins."""

    journal: Journal
    refusing: str | None = None
    _asked_at: float = -float("inf")
    _journal_trouble: str | None = None
    _lock: trio.Lock = attrs.field(factory=trio.Lock)

    async def why_not_ready(self) -> str | None:
        """None, or the reason. If cancelled: no effect."""
        if self.refusing is not None:
            return self.refusing
        async with self._lock:
            if trio.current_time() - self._asked_at >= PING_EVERY_SECONDS:
                self._journal_trouble = await self._ask_journal()
                self._asked_at = trio.current_time()
            return self._journal_trouble

    async def _ask_journal(self) -> str | None:
        try:
            with trio.fail_after(PING_TIMEOUT_SECONDS):
                await self.journal.ping()
        except JournalUnavailable as error:
            return f"journal unreachable: {error.reason}"
        except trio.TooSlowError:
            return "journal unreachable: no answer"
        return None

    async def healthz(self, _request: HttpRequest) -> HttpResponse:
        return HttpResponse.sentence(200, "ok")

    async def readyz(self, _request: HttpRequest) -> HttpResponse:
        reason = await self.why_not_ready()
        return HttpResponse.sentence(200, "ready") if reason is None else HttpResponse.sentence(503, reason)
