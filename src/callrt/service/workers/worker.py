"""``python -m callrt.service.workers.worker``: one worker process.

Told what to be on standard input; given its end of the line and the listening sockets as open descriptors. It ends
when its parent says so, when it is told by a signal, or when its parent is gone.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import trio

from callrt.errors import CallrtError
from callrt.policy.settings import Settings
from callrt.service.garbage import collect_rarely
from callrt.service.log import configure_logging, secrets_of
from callrt.service.running import drain_and_stop, each_signal, end_process, leave, watched
from callrt.service.service import Parts, Service, ServiceDesk
from callrt.service.wiring import make_desk
from callrt.service.workers.channel import Channel
from callrt.service.workers.colleagues import Colleagues
from callrt.service.workers.messages import Drain, Leaving, Ready, StepBack, SteppedBack, decode_order
from callrt.supervision import Watchdog

log = logging.getLogger("callrt.workers")


async def run_worker(
    settings: Settings,
    make: Callable[[Parts], ServiceDesk],
    channel: Channel,
    listening: Sequence[socket.socket],
    *,
    end_process: Callable[[int], Any],
    **options: Any,
) -> None:
    """Serve until told to end."""
    colleagues = Colleagues(channel)
    service = Service(settings, make, inherited={"public": listening}, colleagues=colleagues, **options)

    async def obey(watchdog: Watchdog) -> None:
        async def leave() -> None:
            # The parent knows whether all are to go, and says how.
            colleagues.say(Leaving())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(each_signal, leave, lambda: end_process(1))
            nursery.start_soon(_obey_parent, service, colleagues, watchdog, end_process)

    async with watched(obey, end_process), trio.open_nursery() as nursery:
        await nursery.start(service.run)
        colleagues.say(Ready())


async def _obey_parent(
    service: Service, colleagues: Colleagues, watchdog: Watchdog, end_process: Callable[[int], Any]
) -> None:
    stepped_back = False
    while True:
        match await colleagues.next_order():
            case StepBack():
                stepped_back = True
                await service.step_back()
                colleagues.say(SteppedBack())
            case Drain(make_way):
                break
            case None:
                # At once: whoever comes instead of the parent needs the port.
                service.stop_accepting()
                make_way = False
                break
    if stepped_back:
        # Those who leave with us have said so by now: none of them is taken for one who goes on.
        await service.step_back()
    await drain_and_stop(service, watchdog, end_process, make_way=make_way)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="callrt worker")
    parser.add_argument("--line", type=int, required=True)
    parser.add_argument("--listen", type=int, nargs="+", required=True)
    args = parser.parse_args(argv)
    # Until it can be obeyed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = decode_order(sys.stdin.buffer.read())
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    settings = order.settings
    configure_logging(
        secrets_of(settings), as_json=order.log_json, level=order.log_level, worker=order.number
    )
    line, *listening = (_inherited(number) for number in (args.line, *args.listen))

    async def run() -> None:
        await run_worker(settings, make_desk, Channel(line), listening, end_process=end_process)

    status = 1
    try:
        collect_rarely()
        trio.run(run)
        status = 0
    except CallrtError as error:
        log.error("the worker cannot be kept alive", extra={"reason": type(error).__name__})
        status = error.exit_status
    finally:
        leave(status)
    return status


def _inherited(number: int) -> socket.socket:
    os.set_inheritable(number, False)
    found = socket.socket(fileno=number)
    found.setblocking(False)
    return found


if __name__ == "__main__":
    sys.exit(main())
