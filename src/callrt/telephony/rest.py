"""What we ask of Twilio outside the media socket: redirect a call, hang up, look, send a message.

Repeating a request is safe or not by what it does. Setting a call's state or its document again has the same
end, so every passing failure is tried again. A message has no idempotency key: it is sent again only when
Twilio says, or the network proves, that the first request was not processed.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Mapping
from typing import Any

import attrs
import httpx
import msgspec
import trio

from callrt.policy.settings import TwilioSettings
from callrt.telephony.outbound import LIMITS, Outbound

SMS_CHARS_MAX = 1600
"""Twilio's bound for one message body; longer ones are cut."""

TWIML_CHARS_MAX = 4000
"""Twilio's bound for a document inside a REST request."""

_ANSWER_BYTES_MAX = 256 * 1024
_ALREADY_OVER = (20404, 21220)
_TOO_MANY_REQUESTS = 20429


class TwilioError(Exception):
    """Twilio refused, or did not answer. Names the action and the code; never an address, number or key."""

    def __init__(self, action: str, status: int | None, code: int | None, *, may_have_happened: bool) -> None:
        what = f"status {status}, code {code}" if status is not None else "no answer"
        super().__init__(f"{action}: {what}")
        self.action = action
        self.status = status
        """HTTP status, or None when no answer came."""
        self.code = code
        """Twilio's error code, if it gave one."""
        self.may_have_happened = may_have_happened

    @property
    def already_over(self) -> bool:
        """The call is not in progress any more, or too old to be known."""
        return self.code in _ALREADY_OVER or (self.status == 404 and self.code is None)

    @property
    def not_processed(self) -> bool:
        """Twilio or the network vouches that nothing has happened: safe to repeat, whatever the request."""
        return not self.may_have_happened and (
            self.status is None or self.status == 429 or self.code == _TOO_MANY_REQUESTS
        )


@attrs.frozen
class CallFacts:
    """What Twilio says of a call."""

    call_sid: str
    status: str
    """queued, ringing, in-progress, completed, busy, failed, no-answer or canceled."""
    direction: str

    @property
    def is_over(self) -> bool:
        return self.status in ("completed", "busy", "failed", "no-answer", "canceled")


@attrs.frozen
class Retries:
    """How a passing failure is met: delays double from the first up to the cap, with jitter."""

    attempts_max: int = 4
    first_seconds: float = 0.25
    cap_seconds: float = 4.0
    attempt_timeout_seconds: float = 5.0


class TwilioRest(Outbound):
    """Twilio's REST interface for one account, as an async context manager.

    ``transport`` and ``rng`` are injected: tests answer in memory, and delays are repeatable.
    Every method raises :class:`TwilioError`. If a method is cancelled: it may have happened.
    """

    def __init__(
        self,
        settings: TwilioSettings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        rng: random.Random,
        retries: Retries | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._account = settings.account_sid
        self._retries = retries or Retries()
        client = httpx.AsyncClient(
            base_url=f"{settings.api_url}/2010-04-01/Accounts/{settings.account_sid}",
            auth=(settings.account_sid, settings.auth_token),
            transport=transport,
            verify=True if ssl_context is None else ssl_context,
            timeout=self._retries.attempt_timeout_seconds,
            limits=LIMITS,
            follow_redirects=False,
            trust_env=False,
        )
        super().__init__(client, rng)

    async def update_call(self, call_sid: str, *, twiml: str | None = None, url: str | None = None) -> None:
        """Make a live call run another document: its text, or the address that gives it. Ends an open stream.

        A :class:`TwilioError` with ``already_over`` means that the call has ended by itself.
        """
        if (twiml is None) == (url is None):
            raise ValueError("update_call takes either twiml or url")
        if twiml is not None and len(twiml) > TWIML_CHARS_MAX:
            raise ValueError(
                f"a document in a REST request has at most {TWIML_CHARS_MAX} characters: use url"
            )
        form = {"Twiml": twiml} if twiml is not None else {"Url": url or "", "Method": "POST"}
        await self._persist("update_call", "POST", f"/Calls/{call_sid}.json", form)

    async def hang_up(self, call_sid: str) -> None:
        """End a call. A call that is already over counts as ended."""
        try:
            await self._persist("hang_up", "POST", f"/Calls/{call_sid}.json", {"Status": "completed"})
        except TwilioError as error:
            if not error.already_over:
                raise

    async def fetch_call(self, call_sid: str) -> CallFacts:
        """What Twilio says of a call now."""
        answer = await self._persist("fetch_call", "GET", f"/Calls/{call_sid}.json", None)
        return CallFacts(
            call_sid=call_sid,
            status=str(answer.get("status", "")),
            direction=str(answer.get("direction", "")),
        )

    async def send_sms(self, to: str, sender: str, body: str) -> str:
        """Send one message; returns its identity. Repeated only if the first was surely not processed.

        An error with ``may_have_happened`` leaves it open: do not repeat it blindly.
        """
        form = {"To": to, "From": sender, "Body": body[:SMS_CHARS_MAX]}
        answer = await self._persist("send_sms", "POST", "/Messages.json", form, repeatable=False)
        return str(answer.get("sid", ""))

    async def _persist(
        self, action: str, method: str, path: str, form: Mapping[str, str] | None, *, repeatable: bool = True
    ) -> Mapping[str, Any]:
        def worth_repeating(error: BaseException) -> bool:
            if not isinstance(error, TwilioError):
                return False
            passing = error.status is None or error.status >= 500
            return error.not_processed or (repeatable and passing)

        retries = self._retries
        retrying = self._retrying(
            worth_repeating,
            attempts=retries.attempts_max,
            first=retries.first_seconds,
            cap=retries.cap_seconds,
        )
        answer: Mapping[str, Any] = await retrying(self._once, action, method, path, form)
        return answer

    async def _once(
        self, action: str, method: str, path: str, form: Mapping[str, str] | None
    ) -> Mapping[str, Any]:
        try:
            async with self._places:
                # httpx bounds each read; this bounds the whole, so that a trickling answer cannot hold a call.
                with trio.fail_after(self._retries.attempt_timeout_seconds):
                    async with self._client.stream(method, path, data=form) as response:
                        body = await _read_bounded(response)
                        status = response.status_code
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            raise TwilioError(action, None, None, may_have_happened=False) from None
        except (httpx.HTTPError, trio.TooSlowError):
            raise TwilioError(action, None, None, may_have_happened=True) from None
        answer = _object(body)
        if 200 <= status < 300:
            return answer
        code = answer.get("code")
        raise TwilioError(
            action,
            status,
            code if isinstance(code, int) else None,
            may_have_happened=status >= 500,
        )


async def _read_bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > _ANSWER_BYTES_MAX:
            return b""
    return bytes(body)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return answer if isinstance(answer, dict) else {}
