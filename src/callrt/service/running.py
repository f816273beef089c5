"""A service as a process: a watchdog beside it, and signals that end it, at first politely."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import trio

from callrt.errors import CallrtError
from callrt.policy.settings import Settings
from callrt.service.service import Parts, Service, ServiceDesk
from callrt.supervision import Watchdog

log = logging.getLogger("callrt.service")

STANDSTILL_SECONDS = 20.0
"""A loop that stands still for so long has lost its calls: the process ends, and another takes them up."""

LAST_WORDS_MARGIN = 15.0
"""For the calls that are ended politely after the drain."""

SWITCH_SECONDS = 0.0005
"""Python's default of 5 ms lets each thread that spins in a tool take a quarter of a frame from every call."""

STOP_SECONDS = 10.0
"""For an ordered stop after the drain. What has not ended by then is ended with the process."""

LEAVE_SECONDS = 2.0
"""For the process to end after its service, and for what is still to be written."""


async def run_service(
    settings: Settings,
    make_desk: Callable[[Parts], ServiceDesk],
    *,
    announce: Callable[[str], None],
    end_process: Callable[[int], Any],
    **options: Any,
) -> int:
    """Serve until a signal: the first SIGTERM or SIGINT drains, the second ends the process at once.

    Returns the exit status. ``end_process`` ends the process without any clean-up (``os._exit``): at the
    second signal, or when an ordered stop does not end.
    """
    service = Service(settings, make_desk, **options)

    async def obey(watchdog: Watchdog) -> None:
        await each_signal(lambda: drain_and_stop(service, watchdog, end_process), lambda: end_process(1))

    async with watched(obey, end_process), trio.open_nursery() as nursery:
        announce(await nursery.start(service.run))
    return 0


@asynccontextmanager
async def watched(
    obey: Callable[[Watchdog], Awaitable[None]], end_process: Callable[[int], Any]
) -> AsyncIterator[None]:
    """Around the life of a service: a watchdog, and ``obey``, which hears who wants it to end. A service that fails
    raises its own :class:`CallrtError`."""
    sys.setswitchinterval(SWITCH_SECONDS)
    watchdog = Watchdog(
        kill_seconds=STANDSTILL_SECONDS,
        on_stall=lambda seconds: log.error(
            "the event loop stands still", extra={"seconds": round(seconds, 1)}
        ),
        exit=end_process,
    )
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(watchdog.run)
            nursery.start_soon(obey, watchdog)
            yield
            nursery.cancel_scope.cancel()
        watchdog.disarm()
    except BaseExceptionGroup as group:
        error = _first_leaf(group)
        if isinstance(error, CallrtError):
            raise error from None
        raise


async def each_signal(first: Callable[[], Awaitable[None]], second: Callable[[], Any]) -> None:
    """SIGTERM and SIGINT: the first is obeyed, the second at once. Until cancelled."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            told = False
            async for number in signals:
                log.info("signal", extra={"signal": signal.Signals(number).name})
                if told:
                    # Whatever is not in the journal yet was not promised to anybody.
                    second()
                told = True
                nursery.start_soon(first)


async def drain_and_stop(
    service: Service,
    watchdog: Watchdog,
    end_process: Callable[[int], Any],
    *,
    make_way: bool | None = None,
) -> None:
    """Until the service has ended, one way or the other."""
    # From outside the loop: an end that comes even if something spins in it or swallows its cancellation.
    watchdog.end_by(longest_drain(service.settings))
    await service.drain(make_way=make_way)
    await trio.sleep(STOP_SECONDS)
    log.error("the ordered stop did not end")
    end_process(1)


def leave(status: int) -> None:
    """The service is over: write out what its tools have printed. A process that has not ended by itself after
    ``LEAVE_SECONDS`` is ended with ``status``: nobody reads what it still has to say."""
    end = threading.Timer(LEAVE_SECONDS, os._exit, (status,))
    end.daemon = True
    end.start()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()


def end_process(status: int) -> NoReturn:
    """End the process now, without any clean-up but that of its log, which may take ``LEAVE_SECONDS``."""
    try:
        leave(status)
        logging.shutdown()
    finally:
        os._exit(status)


def longest_drain(settings: Settings) -> float:
    """Seconds after which a process that drains is ended whatever it does."""
    return settings.server.drain_seconds + LAST_WORDS_MARGIN + 2 * STOP_SECONDS


def _first_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
