"""``callrt check``: is the configuration right, before a caller finds out?"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from callrt.errors import ConfigError
from callrt.policy.settings import Settings
from callrt.service.config import read_settings
from callrt.service.loading import check_comfort, check_tools, languages, unheard_comfort
from callrt.service.probe import probe_journal
from callrt.service.wiring import route

EPILOG = """\
examples:
  callrt check
  callrt check --config /etc/callrt.toml

One line per finding. Errors (exit status 2) would keep the service from starting or a call from being
answered; warnings (exit status 0) are worth a look. Tools are imported, so their modules run; nothing is
called, no network is used and no journal is made.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "check",
        help="check configuration, agents, tools, journal, credentials' shape",
        description="Checks everything that can be checked without a call.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, default=Path("callrt.toml"), metavar="FILE", help="default %(default)s"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status: 0 without errors, else 2."""
    try:
        settings, findings = read_settings(args.config, os.environ)
    except ConfigError as error:
        print(f"error: {error}")
        return error.exit_status
    # What follows from a wrong key, whose value is not the operator's, is no finding.
    errors = [*findings, *(found for found in find_errors(settings) if not findings.about(found))]
    for finding in errors:
        print(f"error: {args.config}: {finding}")
    for finding in find_warnings(settings):
        if not findings.about(finding):
            print(f"warning: {args.config}: {finding}")
    if errors:
        return 2
    tools = sum(len(agent.tools) for agent in settings.agents.values())
    print(
        f"ok: {args.config}: {_count(len(settings.agents), 'agent')}, {_count(len(settings.models), 'model')}, "
        f"{_count(tools, 'tool')}"
    )
    return 0


def find_errors(settings: Settings) -> Iterator[str]:
    """What keeps the service from starting."""
    for name in settings.agents:
        try:
            check_tools(settings, name)
        except ConfigError as error:
            yield str(error)
    for language in languages(settings):
        try:
            check_comfort(settings, language)
        except ConfigError as error:
            yield str(error)
            break
    try:
        probe_journal(settings, create=False)
    except ConfigError as error:
        yield str(error)


def find_warnings(settings: Settings) -> Iterator[str]:
    """What is allowed and probably not meant. Never quotes a credential."""
    yield from _credentials(settings)
    server = settings.server
    public = urlsplit(server.reached_on(server.port))
    if _is_loopback(public.hostname or ""):
        yield "[server] public_url: only this machine reaches it; write the https address that the carrier reaches"
    elif public.scheme != "https":
        yield "[server] public_url: calls would cross the network unencrypted; write an https address"
    if not _is_loopback(server.admin_host):
        yield '[server] admin_host: others may read the metrics; write "127.0.0.1", or guard the port'
    if not settings.twilio.verify_signatures:
        yield "[carriers.twilio] verify_signatures: anybody may place calls; write true"
    if "default" not in settings.routes and settings.agents:
        yield f'[routes] default: is missing; calls to other numbers reach the first agent, "{route(settings, "")}"'
    if (unheard := unheard_comfort(settings)) is not None:
        yield unheard


def _credentials(settings: Settings) -> Iterator[str]:
    twilio = settings.twilio
    if _is_host(twilio.api_url, "twilio.com"):
        if not re.fullmatch(r"AC[0-9a-f]{32}", twilio.account_sid):
            yield "[carriers.twilio] account_sid: does not look like one: AC and 32 hexadecimal digits"
        if not re.fullmatch(r"[0-9a-f]{32}", twilio.auth_token):
            yield "[carriers.twilio] auth_token: does not look like one: 32 hexadecimal digits"
    for model in settings.models.values():
        if _is_host(model.url, "openai.com") and not re.fullmatch(r"sk-[A-Za-z0-9_-]{16,}", model.api_key):
            yield f"[models.{model.name}] api_key: does not look like one: sk- and more"


def _is_host(url: str, domain: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == domain or host.endswith(f".{domain}")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
