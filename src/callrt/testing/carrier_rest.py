"""The carrier's REST interface as one function: what an app may ask about and do to a live call."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs

Answer = tuple[int, dict[str, object]]
"""HTTP status and JSON body."""

BODY_CHARACTERS_MAX = 1600

_FINAL = ("completed", "busy", "failed", "no-answer", "canceled")


class LiveCall(Protocol):
    """What the REST interface needs of a call."""

    @property
    def call_sid(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def from_number(self) -> str: ...
    @property
    def to_number(self) -> str: ...
    def redirect(self, *, url: str | None = None, method: str = "POST", twiml: str | None = None) -> None: ...
    def complete(self) -> None: ...


@attrs.frozen
class Message:
    """A text message that the app has sent."""

    sid: str
    to: str
    sender: str
    body: str


class RestInterface:
    """One account's resources. :meth:`handle` is synchronous: its effects are there when it returns."""

    def __init__(self, account_sid: str, auth_token: str, find: Callable[[str], LiveCall | None]) -> None:
        self._account_sid = account_sid
        self._auth_token = auth_token
        self._find = find
        self._failures: deque[tuple[int, int]] = deque()
        self.messages: list[Message] = []
        self.requests: list[tuple[str, str, int]] = []
        """(method, path, answered status) of everything that was asked."""

    def fail_next(self, status: int = 429, code: int = 20429, times: int = 1) -> None:
        """Answer the next ``times`` requests with a failure and do nothing: a burst of 429, an outage."""
        self._failures.extend([(status, code)] * times)

    def handle(self, method: str, path: str, form: Mapping[str, str], authorization: str | None) -> Answer:
        """One request. ``authorization`` is the header's value."""
        status, body = self._answer(method, path, form, authorization)
        self.requests.append((method, path, status))
        return status, body

    def _answer(self, method: str, path: str, form: Mapping[str, str], authorization: str | None) -> Answer:
        if not self._authorised(authorization):
            return _error(401, 20003, "Authenticate")
        if self._failures:
            status, code = self._failures.popleft()
            return _error(status, code, "Too Many Requests" if status == 429 else "Service Unavailable")
        base = f"/2010-04-01/Accounts/{self._account_sid}/"
        if path == f"{base}Messages.json":
            return (
                self._create_message(form) if method == "POST" else _error(405, 20004, "Method not allowed")
            )
        if path.startswith(f"{base}Calls/") and path.endswith(".json"):
            call = self._find(path.removeprefix(f"{base}Calls/").removesuffix(".json"))
            if call is None:
                return _error(404, 20404, "The requested resource was not found")
            if method == "GET":
                return 200, self._resource(call)
            if method == "POST":
                return self._update(call, form)
            return _error(405, 20004, "Method not allowed")
        return _error(404, 20404, "The requested resource was not found")

    def _update(self, call: LiveCall, form: Mapping[str, str]) -> Answer:
        url, twiml, status = form.get("Url"), form.get("Twiml"), form.get("Status")
        if call.status in _FINAL:
            return _error(400, 21220, "Call is not in-progress. Cannot redirect.")
        if url and twiml:
            return _error(400, 21218, "Url and Twiml are mutually exclusive")
        if twiml is not None and len(twiml) > 4000:
            return _error(400, 21218, "Twiml is longer than 4000 characters")
        if status is not None:
            if status == "canceled" and call.status == "in-progress":
                return _error(400, 21220, "Call is in-progress. Cannot cancel.")
            if status not in ("completed", "canceled"):
                return _error(400, 21218, "Invalid Status")
            call.complete()
        elif url or twiml:
            if call.status != "in-progress":
                return _error(400, 21220, "Call is not in-progress. Cannot redirect.")
            call.redirect(url=url, method=form.get("Method", "POST"), twiml=twiml)
        return 200, self._resource(call)

    def _create_message(self, form: Mapping[str, str]) -> Answer:
        if not form.get("To"):
            return _error(400, 21604, "A 'To' phone number is required.")
        sender = form.get("From") or form.get("MessagingServiceSid")
        if not sender:
            return _error(400, 21603, "A 'From' phone number is required.")
        body = form.get("Body", "")
        if not body:
            return _error(400, 21602, "Message body is required.")
        if len(body) > BODY_CHARACTERS_MAX:
            return _error(400, 21617, "The concatenated message body exceeds the 1600 character limit")
        message = Message(f"SM{len(self.messages) + 1:032x}", form["To"], sender, body)
        self.messages.append(message)
        return 201, {
            "sid": message.sid,
            "account_sid": self._account_sid,
            "status": "queued",
            "to": message.to,
        }

    def _resource(self, call: LiveCall) -> dict[str, object]:
        return {
            "sid": call.call_sid,
            "account_sid": self._account_sid,
            "status": call.status,
            "from": call.from_number,
            "to": call.to_number,
        }

    def _authorised(self, authorization: str | None) -> bool:
        scheme, _, encoded = (authorization or "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(given, f"{self._account_sid}:{self._auth_token}".encode())


def _error(status: int, code: int, message: str) -> Answer:
    return status, {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
