"""One line per event, ``key=value`` or JSON; no secrets and nobody's words.

A message is a static sentence; what varies goes into ``extra=``, and only the keys named here are written:
whoever adds one decides that it may stand in a log. Exceptions are written as their type and place, never
as their message: a message may quote what somebody said.
"""

from __future__ import annotations

import datetime
import json
import logging
import re
import sys
import traceback
from collections.abc import Iterable
from typing import IO, Any

import attrs

from callrt.policy.settings import Settings
from callrt.service.log_queue import QueueHandler, write_to

KEYS = (
    "call_sid",
    "stream_sid",
    "agent",
    "actor",
    "fault",
    "reason",
    "outcome",
    "status",
    "code",
    "event",
    "generation",
    "incarnation",
    "path",
    "route",
    "port",
    "calls",
    "count",
    "seconds",
    "signal",
    "worker",
)

_VALUE_CHARS_MAX = 200
_REDACTED = "[redacted]"

# Also what was never configured: a number or a key may come with a peer's answer.
_PATTERNS = re.compile(
    r"\+[1-9][0-9]{6,14}\b"  # a phone number
    r"|\bsk-[A-Za-z0-9_-]{8,}"  # an API key
    r"|\b(?:Bearer|Basic)\s+[A-Za-z0-9+/=._-]+"  # an authorisation header
    r"|\b[0-9a-f]{32}\b"  # an auth token; call and stream identities have two letters before it
)
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+-]+\Z")


class SecretFilter(logging.Filter):
    """Replaces configured secrets, and what looks like a key or a phone number, in all that is written."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets = sorted({secret for secret in secrets if len(secret) >= 4}, key=len, reverse=True)

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = self.clean(record.getMessage())
        record.args = None
        for key in KEYS:
            value = record.__dict__.get(key)
            if isinstance(value, str):
                record.__dict__[key] = self.clean(value)
        return True

    def clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _REDACTED)
        return _PATTERNS.sub(_REDACTED, text)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    fields: dict[str, Any] = {
        "at": at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z",
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": str(record.msg)[:_VALUE_CHARS_MAX],
    }
    for key in KEYS:
        value = record.__dict__.get(key)
        if isinstance(value, bool | int | float):
            fields[key] = value
        elif value is not None:
            fields[key] = str(value)[:_VALUE_CHARS_MAX]
    if record.exc_info and record.exc_info[1] is not None:
        fields["exception"], fields["where"] = _where(record.exc_info[1])
    return fields


def _where(error: BaseException) -> tuple[str, str]:
    """Type and innermost place; of a group, its first leaf."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    place = frames[-1] if frames else None
    file = place.filename.replace("\\", "/").rsplit("/", 1)[-1] if place else "?"
    return type(error).__name__, f"{file}:{place.lineno if place else 0}"


class KeyValueFormatter(logging.Formatter):
    """``at=… level=… logger=… message="…" call_sid=…``"""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quoted(value)}" for key, value in _fields(record).items())


class JsonFormatter(logging.Formatter):
    """The same as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_fields(record), ensure_ascii=False)


def _quoted(value: Any) -> str:
    text = str(value)
    return text if _PLAIN.match(text) else json.dumps(text, ensure_ascii=True)


class _WorkerFilter(logging.Filter):
    """Says which worker process a line is from."""

    def __init__(self, worker: int) -> None:
        super().__init__()
        self._worker = worker

    def filter(self, record: logging.LogRecord) -> bool:
        record.__dict__.setdefault("worker", self._worker)
        return True


def secrets_of(settings: Settings) -> list[str]:
    """What must never be written anywhere."""
    return [settings.twilio.auth_token, *(model.api_key for model in settings.models.values())]


_NAMES = {"why": "reason", "waiting": "count"}


def report_fields(report: attrs.AttrsInstance) -> dict[str, Any]:
    """A report as the ``extra`` of a line: its name, and of its fields those that a log may have."""
    fields = {_NAMES.get(name, name): value for name, value in attrs.asdict(report, recurse=False).items()}
    known = {name: value for name, value in fields.items() if name in KEYS and value != ""}
    return {"event": type(report).__name__, **known}


def configure_logging(
    secrets: Iterable[str],
    *,
    as_json: bool = False,
    level: int = logging.INFO,
    stream: IO[str] | None = None,
    worker: int | None = None,
) -> None:
    """Send all logging of this process through one handler to ``stream`` (stderr by default). ``worker``: one of
    several processes that write there. A thread writes; what it cannot is dropped and counted (``log_queue.py``)."""
    handler = QueueHandler(write_to(stream or sys.stderr))
    handler.setFormatter(JsonFormatter() if as_json else KeyValueFormatter())
    handler.addFilter(SecretFilter(secrets))
    if worker is not None:
        handler.addFilter(_WorkerFilter(worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Libraries log addresses and headers at lower levels.
    for name in ("httpx", "httpcore", "trio-websocket", "wsproto"):
        logging.getLogger(name).setLevel(logging.WARNING)
