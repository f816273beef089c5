"""Webhooks: signature first, then fields, then the desk, then TwiML.

A request that the carrier did not sign gets 403 and touches nothing: not the desk, not the journal. A desk
that fails is not the caller's fault: the caller hears an apology, not the carrier's "application error".
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import attrs
import trio

from callrt.policy.facts import BadInput, Fact
from callrt.protocol.carriers.calls import TERMINAL, IncomingCall
from callrt.protocol.carriers.documents import Document, HangUp, Nothing, SayAndHangUp
from callrt.service.desk import CallDesk
from callrt.service.elsewhere import Elsewhere
from callrt.service.forms import BadForm, Form, parse_form
from callrt.service.http import Handler, HttpRequest, HttpResponse
from callrt.telephony import signatures, twiml, urls
from callrt.telephony.urls import Urls

log = logging.getLogger("callrt.webhooks")

DESK_TIMEOUT_SECONDS = 8.0
"""Twilio waits 15 s in all and may try twice; the HTTP server itself gives up after 12."""

APOLOGY = SayAndHangUp("Sorry, we cannot take your call right now. Please try again later. Goodbye.")

_FIELD_CHARS_MAX = 256

_CALL_SID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""It names files, and stands in logs and addresses."""


class _MissingField(Exception):
    pass


@attrs.frozen
class Webhooks:
    """The carrier's addresses. ``issue_token`` makes path tokens; ``observe`` takes facts."""

    desk: CallDesk
    urls: Urls
    keys: Sequence[str] = attrs.field(repr=False)
    verify: bool
    issue_token: Callable[[str, int], str]
    observe: Callable[[Fact], None]
    elsewhere: Elsewhere | None = None

    def routes(self) -> dict[str, Handler]:
        """Path to handler; every one of them takes POST only."""
        return {path: partial(self._handle, path) for path in self._answers()}

    def _answers(self) -> dict[str, Callable[[Form], Awaitable[Document]]]:
        return {
            urls.VOICE: self._voice,
            urls.ACTION: self._action,
            urls.DIAL_ENDED: self._dial_ended,
            urls.WHISPER: self._whisper,
            urls.STATUS: self._status,
            urls.STREAM_STATUS: self._stream_status,
        }

    async def _handle(self, path: str, request: HttpRequest) -> HttpResponse:
        try:
            form = parse_form(request.header("content-type"), request.body)
        except BadForm as error:
            if self.verify:
                # A signature over something that is no form cannot be right.
                return self._not_signed()
            return self._bad_request("bad_form", str(error))
        if self.verify and not self._is_signed(path, request, form):
            return self._not_signed()
        call_sid = _call_of(path, form)
        if self.elsewhere is None or not call_sid:
            return await self.answer(path, form)
        response = await self.elsewhere.ask(call_sid, path, form)
        if response is not None:
            return response
        try:
            return await self.answer(path, form)
        finally:
            self.elsewhere.settled(call_sid)

    async def answer(self, path: str, form: Form) -> HttpResponse:
        """The answer to a webhook that was found to be the carrier's. If cancelled: it may have happened."""
        try:
            document = await self._ask(self._answers()[path], form)
        except _MissingField as missing:
            return self._bad_request("missing_field", f"the field {missing} is missing or not valid")
        body = twiml.render(document, self.urls, self.issue_token)
        return HttpResponse(200, body.encode(), twiml.CONTENT_TYPE)

    def _is_signed(self, path: str, request: HttpRequest, form: Form) -> bool:
        signature = request.header(signatures.HEADER)
        if not signature:
            return False
        # The address as the carrier was told it, never as the request (or a proxy) says it.
        url = self.urls.public_url + path + (f"?{request.query}" if request.query else "")
        return signatures.verify_webhook(self.keys, url, form.fields, signature)

    def _not_signed(self) -> HttpResponse:
        self.observe(BadInput("webhook", "signature"))
        return HttpResponse.sentence(403, "this request is not signed by the carrier")

    def _bad_request(self, reason: str, sentence: str) -> HttpResponse:
        self.observe(BadInput("webhook", reason))
        return HttpResponse.sentence(400, sentence)

    async def _ask(self, answer: Callable[[Form], Awaitable[Document]], form: Form) -> Document:
        try:
            with trio.fail_after(DESK_TIMEOUT_SECONDS):
                return await answer(form)
        except _MissingField:
            raise
        except trio.TooSlowError:
            log.error("no decision in time")
        except Exception:
            # The boundary between a carrier's request and our calls: the caller must hear something.
            log.exception("no decision")
        return APOLOGY

    async def _voice(self, form: Form) -> Document:
        call = IncomingCall(
            call_sid=_call_sid(form),
            account=_required(form, "AccountSid"),
            caller=_caller(form),
            called=_required(form, "To"),
            direction=form.get("Direction")[:_FIELD_CHARS_MAX] or "inbound",
        )
        return await self.desk.incoming(call)

    async def _action(self, form: Form) -> Document:
        call_sid = _call_sid(form)
        if form.get("CallStatus") in TERMINAL:
            # The caller has hung up: a new stream would never come, and the call would wait for it.
            await self.desk.call_status(call_sid, form.get("CallStatus"))
            return HangUp()
        return await self.desk.stream_ended(call_sid)

    async def _dial_ended(self, form: Form) -> Document:
        return await self.desk.dial_ended(_call_sid(form), _required(form, "DialCallStatus"))

    async def _whisper(self, form: Form) -> Document:
        return await self.desk.whisper(_call_of(urls.WHISPER, form) or _call_sid(form))

    async def _status(self, form: Form) -> Document:
        await self.desk.call_status(_call_sid(form), _required(form, "CallStatus"))
        return Nothing()

    async def _stream_status(self, form: Form) -> Document:
        await self.desk.stream_status(
            _call_sid(form),
            _required(form, "StreamSid"),
            _required(form, "StreamEvent"),
            form.get("StreamError")[:_FIELD_CHARS_MAX],
        )
        return Nothing()


def _call_of(path: str, form: Form) -> str:
    """The call that a webhook is about, "" if it does not say."""
    # The human's leg is a call of its own; the caller's is its parent.
    parent = form.get("ParentCallSid") if path == urls.WHISPER else ""
    return (parent or form.get("CallSid"))[:_FIELD_CHARS_MAX]


def _caller(form: Form) -> str:
    """A withheld number may be empty, but the field is there."""
    if any(name == "From" and not value for name, value in form.fields):
        return "anonymous"
    return _required(form, "From")


def _required(form: Form, name: str) -> str:
    value = form.get(name)
    if not value.strip() or len(value) > _FIELD_CHARS_MAX or not value.isprintable():
        raise _MissingField(name)
    return value


def _call_sid(form: Form) -> str:
    value = _required(form, "CallSid")
    if not _CALL_SID.fullmatch(value):
        raise _MissingField("CallSid")
    return value
