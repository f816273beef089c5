"""The carrier's requests to the app: signed, retried as the real one retries, recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urldefrag, urlencode

import trio

from callrt.testing.carrier_plan import Habits, WebhookRecord
from callrt.testing.carrier_signing import sign
from callrt.testing.twiml_player import TwimlError, Verb, parse_twiml

Reply = tuple[int, Mapping[str, str], bytes]
"""HTTP status, headers with lower-case names, body."""

Request = Callable[[str, str, Mapping[str, str], Mapping[str, str]], Awaitable[Reply]]
"""Of (method, address, headers, form). Raises OSError when there is no answer."""

_XML_TYPES = ("text/xml", "application/xml", "text/html")


class DocumentUnavailable(Exception):
    """No document came of the request; the call hears an application error. ``code`` is the carrier's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Webhooks:
    """One call's requests."""

    def __init__(
        self,
        request: Request,
        auth_token: str,
        habits: Habits,
        record: Callable[[WebhookRecord], None],
    ) -> None:
        self._request = request
        self._auth_token = auth_token
        self._habits = habits
        self._record = record

    async def fetch(self, kind: str, url: str, method: str, form: Mapping[str, str]) -> tuple[Verb, ...]:
        """Ask for a document.

        :raises DocumentUnavailable: no answer, a status other than 2xx, or a document that cannot be
            executed.
        """
        if self._habits.duplicate_webhooks and kind in ("voice", "action"):
            await self._attempt(kind, url, method, form)
        reply: Reply = (0, {}, b"")
        with trio.move_on_after(self._habits.webhook_seconds):
            for attempt in range(self._habits.webhook_attempts):
                if attempt and self._habits.webhook_retry_seconds:
                    await trio.sleep(self._habits.webhook_retry_seconds)
                reply = await self._attempt(kind, url, method, form)
                if 0 < reply[0] < 500:
                    break
        status, headers, body = reply
        if not 200 <= status < 300:
            raise DocumentUnavailable(11200, f"the {kind} address answered {status or 'nothing'}")
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type not in _XML_TYPES:
            raise DocumentUnavailable(12300, f"the {kind} address answered with {content_type or 'no type'}")
        try:
            return parse_twiml(body, url)
        except TwimlError as error:
            raise DocumentUnavailable(error.code, str(error)) from error

    async def notify(self, kind: str, url: str, method: str, form: Mapping[str, str]) -> None:
        """Tell the app something; whatever it answers is recorded and has no effect."""
        with trio.move_on_after(self._habits.webhook_seconds):
            await self._attempt(kind, url, method, form)

    async def _attempt(self, kind: str, url: str, method: str, form: Mapping[str, str]) -> Reply:
        target = urldefrag(url).url  # connection overrides live there; they are neither sent nor signed
        signed_form = form
        if method == "GET":
            target += ("&" if "?" in target else "?") + urlencode(form)
            signed_form = {}
        headers = {
            "x-twilio-signature": sign(self._auth_token, target, signed_form),
            "user-agent": "TwilioProxy/1.1",
        }
        began = trio.current_time()
        status, body = 0, b""
        answer_headers: dict[str, str] = {}
        try:
            status, given, body = await self._request(method, target, headers, signed_form)
            answer_headers = {name.lower(): value for name, value in given.items()}
        except OSError as error:
            body = str(error).encode()
        finally:
            seconds = trio.current_time() - began
            self._record(WebhookRecord(began, kind, target, status, seconds, body))
        return status, answer_headers, body
