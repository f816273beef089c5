"""The admin port of a service with workers: what all of them say, together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from callrt.service.http import HttpRequest, HttpResponse
from callrt.service.metrics import CONTENT_TYPE, Metrics
from callrt.service.router import Router
from callrt.service.workers.switchboard import Switchboard
from callrt.service.workers.totals import families_of


def admin_router(
    switchboard: Switchboard,
    metrics: Metrics,
    *,
    workers: Callable[[], list[Any]],
    refusing: Callable[[], str | None],
) -> Router:
    """``metrics``: what the parent has counted itself. ``refusing``: why no call is taken, or None."""

    async def get_metrics(_request: HttpRequest) -> HttpResponse:
        await switchboard.inquire("metrics")
        ours = families_of(metrics.registry)
        return HttpResponse(200, switchboard.totals.exposition(ours), CONTENT_TYPE)

    async def get_calls(_request: HttpRequest) -> HttpResponse:
        told = await switchboard.inquire("calls")
        calls = [{**call, "worker": member.number} for member, each in told for call in each.calls]
        return HttpResponse(200, msgspec.json.encode({"calls": calls}) + b"\n", "application/json")

    async def get_workers(_request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, msgspec.json.encode({"workers": workers()}) + b"\n", "application/json")

    async def healthz(_request: HttpRequest) -> HttpResponse:
        return HttpResponse.sentence(200, "ok")

    async def readyz(_request: HttpRequest) -> HttpResponse:
        reason = refusing()
        if reason is None:
            reasons = [each.not_ready for _, each in await switchboard.inquire("readiness")]
            # One that is ready takes the calls of those that are not.
            reason = None if None in reasons else next(iter(reasons), "no worker answers")
        return HttpResponse.sentence(200, "ready") if reason is None else HttpResponse.sentence(503, reason)

    router = Router(metrics.observe)
    router.get("/metrics", get_metrics)
    router.get("/calls", get_calls)
    router.get("/workers", get_workers)
    router.get("/healthz", healthz)
    router.get("/readyz", readyz)
    return router
