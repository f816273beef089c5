"""``callrt serve``: the long-lived service."""

from __future__ import annotations

import argparse
import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from callrt.cli import arguments
from callrt.errors import ConfigError
from callrt.policy.settings import ServerSettings
from callrt.service.config import load_settings, same_port
from callrt.service.config_reader import NO_HOST, is_host
from callrt.service.garbage import collect_rarely
from callrt.service.loading import check_comfort, check_tools, languages, unheard_comfort
from callrt.service.log import configure_logging, secrets_of
from callrt.service.probe import probe_journal
from callrt.service.running import end_process, leave, run_service
from callrt.service.sockets import inherited_sockets
from callrt.service.wiring import make_desk
from callrt.service.workers.fleet import run_workers

log = logging.getLogger("callrt.service")

WORKERS_MAX = 128
"""More than the cores of any machine that a journal on one disk can serve."""

EPILOG = """\
examples:
  callrt serve                            with ./callrt.toml
  callrt serve --config /etc/callrt.toml --host 0.0.0.0 --port 80
  callrt serve --workers 4                four processes, four times the calls

Point the voice webhook of your Twilio number (POST) at PUBLIC_URL/twilio/voice, where PUBLIC_URL is
[server] public_url. For operators: http://127.0.0.1:8081 has /metrics, /calls, /healthz and /readyz.

SIGTERM or Ctrl-C: no new calls, live ones get [server] drain_seconds to end. A second one ends at once.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "serve",
        help="answer calls",
        description="Answers calls until it is told to end.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, default=Path("callrt.toml"), metavar="FILE", help="default %(default)s"
    )
    parser.add_argument("--host", type=_host, help="listen here instead of [server] host")
    parser.add_argument(
        "--port", type=arguments.port, help="listen here instead of [server] port; 0: any free one"
    )
    parser.add_argument(
        "--workers",
        type=arguments.whole(1, WORKERS_MAX),
        default=1,
        metavar="N",
        help="processes on the public port; one per core at most (default %(default)s)",
    )
    parser.add_argument(
        "--log", choices=("text", "json"), default="text", help="lines on stderr (default %(default)s)"
    )
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="default %(default)s",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status: 0 after a drain; 1 for a taken port or a service that cannot be kept alive; 2 configuration."""
    settings = load_settings(args.config, os.environ)
    settings = attrs.evolve(settings, server=listening_on(settings.server, args.host, args.port))
    configure_logging(
        secrets_of(settings), as_json=args.log == "json", level=getattr(logging, args.log_level.upper())
    )
    try:
        probe_journal(settings, create=True)
        for agent in settings.agents:
            check_tools(settings, agent)
        for language in languages(settings):
            check_comfort(settings, language)
    except ConfigError as error:
        raise ConfigError(f"{args.config}: {error}") from None
    if (unheard := unheard_comfort(settings)) is not None:
        log.warning(f"{args.config}: {unheard}")
    how: dict[str, Any] = {
        "announce": _announce,
        "end_process": end_process,
        "inherited": inherited_sockets(os.environ, os.getpid()),
    }
    if args.workers == 1:
        collect_rarely()
        serve = partial(run_service, settings, make_desk, **how)
    else:
        how.update(log_json=args.log == "json", log_level=logging.getLogger().level)
        serve = partial(run_workers, settings, args.workers, **how)
    status = 1
    try:
        status = trio.run(serve)
    finally:
        leave(status)
    return status


def listening_on(server: ServerSettings, host: str | None, port: int | None) -> ServerSettings:
    """The server settings with what the command line says. Raises :class:`ConfigError`."""
    moved = attrs.evolve(
        server,
        host=server.host if host is None else host,
        port=server.port if port is None else port,
    )
    if same_port(moved):
        raise ConfigError(
            f"[server] admin_port: is {moved.port} too, where --host and --port listen; choose another --port"
        )
    return moved


def _announce(line: str) -> None:
    print(line, flush=True)


def _host(text: str) -> str:
    if not is_host(text):
        raise argparse.ArgumentTypeError(NO_HOST)
    return text
