"""Webhooks: unsigned requests touch nothing; signed ones reach the desk and come back as TwiML."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from service_helpers import CALL, KEY, VOICE, Client, Facts, FakeDesk

from callrt.policy.facts import BadInput, RequestServed
from callrt.protocol.carriers.calls import IncomingCall
from callrt.service.forms import BadForm, parse_form
from callrt.service.http import serve_http
from callrt.service.router import Router
from callrt.service.tokens import PathTokens
from callrt.service.webhooks import Webhooks
from callrt.telephony.urls import Urls

BASE = "https://calls.example.org"


class Served:
    def __init__(self, *, verify: bool = True, base: str = BASE) -> None:
        self.desk = FakeDesk()
        self.facts = Facts()
        urls = Urls(base)
        webhooks = Webhooks(
            desk=self.desk,
            urls=urls,
            keys=[KEY],
            verify=verify,
            issue_token=PathTokens(KEY).issue,
            observe=self.facts.observe,
        )
        self.router = Router(self.facts.observe, prefix=urls.path_prefix)
        for path, handler in webhooks.routes().items():
            self.router.post(path, handler)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_http, theirs, self.router)
            yield Client(ours)
            nursery.cancel_scope.cancel()


@pytest.fixture
def served() -> Served:
    return Served()


async def test_signed_voice_webhook_is_answered_with_a_stream(
    served: Served, autojump_clock: trio.testing.MockClock
) -> None:
    async with served.client() as client:
        answer = await client.post("/twilio/voice", VOICE, signed_for=f"{BASE}/twilio/voice")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/xml")
    stream = ElementTree.fromstring(answer.body).find("Connect/Stream")
    assert stream is not None
    token = PathTokens(KEY).issue(CALL, 1)
    assert stream.get("url") == f"wss://calls.example.org/twilio/media/{token}"
    assert served.desk.asked == [
        ("incoming", IncomingCall(CALL, "AC1", "+15550100001", "+15550100002", "inbound"))
    ]
    assert [fact.route for fact in served.facts if isinstance(fact, RequestServed)] == ["/twilio/voice"]


@pytest.mark.parametrize(
    ("signed_for", "key"),
    [(None, KEY), (f"{BASE}/twilio/action", KEY), (f"{BASE}/twilio/voice", "f" * 32), ("http://h/", KEY)],
)
async def test_request_that_the_carrier_did_not_sign_gets_403_and_touches_nothing(
    signed_for: str | None, key: str, served: Served, autojump_clock: trio.testing.MockClock
) -> None:
    async with served.client() as client:
        answer = await client.post("/twilio/voice", VOICE, signed_for=signed_for, key=key)
    assert answer.status == 403
    assert answer.text.count("\n") == 1
    assert served.desk.asked == []
    assert BadInput("webhook", "signature") in served.facts


async def test_signature_over_other_fields_gets_403(
    served: Served, autojump_clock: trio.testing.MockClock
) -> None:
    async with served.client() as client:
        signature = {"x-twilio-signature": "VoC0f62rHt0rKWFQyoKFHcGuodQ="}
        answer = await client.request(
            "POST",
            "/twilio/voice",
            headers={**signature, "content-type": "application/x-www-form-urlencoded"},
            body=b"CallSid=CA1",
        )
    assert answer.status == 403
    assert served.desk.asked == []


@pytest.mark.parametrize("missing", ["CallSid", "AccountSid", "From", "To"])
async def test_missing_field_gets_400_and_names_it(
    missing: str, served: Served, autojump_clock: trio.testing.MockClock
) -> None:
    form = {name: value for name, value in VOICE.items() if name != missing}
    async with served.client() as client:
        answer = await client.post("/twilio/voice", form, signed_for=f"{BASE}/twilio/voice")
    assert answer.status == 400
    assert missing in answer.text
    assert answer.text.count("\n") == 1
    assert served.desk.asked == []


async def test_withheld_number_is_still_a_call(
    served: Served, autojump_clock: trio.testing.MockClock
) -> None:
    async with served.client() as client:
        answer = await client.post("/twilio/voice", {**VOICE, "From": ""}, signed_for=f"{BASE}/twilio/voice")
    assert answer.status == 200
    assert served.desk.asked[0][1].caller == "anonymous"


@pytest.mark.parametrize("sid", ["../../etc/passwd", "CA 1", "CA1\u00e9", "C" * 65, "CA/1"])
async def test_call_sid_that_could_not_name_a_file_gets_400(
    sid: str, served: Served, autojump_clock: trio.testing.MockClock
) -> None:
    async with served.client() as client:
        for path in ("/twilio/voice", "/twilio/action", "/twilio/status"):
            form = {**VOICE, "CallSid": sid, "CallStatus": "ringing"}
            answer = await client.post(path, form, signed_for=BASE + path)
            assert answer.status == 400
            assert "CallSid" in answer.text
    assert served.desk.asked == []


ROUTES = [
    ("/twilio/action", {"CallSid": CALL}, ("stream_ended", CALL), "Hangup"),
    ("/twilio/action", {"CallSid": CALL, "CallStatus": "in-progress"}, ("stream_ended", CALL), "Hangup"),
    # The caller has hung up: to offer a stream would keep the call waiting for one.
    (
        "/twilio/action",
        {"CallSid": CALL, "CallStatus": "completed"},
        ("call_status", CALL, "completed"),
        "Hangup",
    ),
    (
        "/twilio/dial-ended",
        {"CallSid": CALL, "DialCallStatus": "busy"},
        ("dial_ended", CALL, "busy"),
        "Hangup",
    ),
    ("/twilio/whisper", {"CallSid": "CAchild", "ParentCallSid": CALL}, ("whisper", CALL), "Say"),
    ("/twilio/whisper", {"CallSid": CALL}, ("whisper", CALL), "Say"),
    (
        "/twilio/status",
        {"CallSid": CALL, "CallStatus": "completed"},
        ("call_status", CALL, "completed"),
        None,
    ),
    (
        "/twilio/stream-status",
        {"CallSid": CALL, "StreamSid": "MZ1", "StreamEvent": "stream-error", "StreamError": "x"},
        ("stream_status", CALL, "MZ1", "stream-error", "x"),
        None,
    ),
]


@pytest.mark.parametrize(("path", "form", "asked", "first"), ROUTES)
async def test_each_route_asks_its_question_and_renders_the_answer(
    path: str,
    form: dict[str, str],
    asked: tuple[str, ...],
    first: str | None,
    served: Served,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with served.client() as client:
        answer = await client.post(path, form, signed_for=BASE + path)
    assert answer.status == 200
    assert served.desk.asked == [asked]
    root = ElementTree.fromstring(answer.body)
    assert [child.tag for child in root][:1] == ([first] if first else [])


@pytest.mark.parametrize("path", ["/twilio/voice", "/twilio/action"])
async def test_a_failing_desk_is_an_apology_to_the_caller(
    path: str, served: Served, autojump_clock: trio.testing.MockClock
) -> None:
    served.desk.fails = RuntimeError("secret detail")
    async with served.client() as client:
        answer = await client.post(path, VOICE, signed_for=BASE + path)
    assert answer.status == 200
    assert [child.tag for child in ElementTree.fromstring(answer.body)] == ["Say", "Hangup"]
    assert "secret" not in answer.text


async def test_a_hanging_desk_is_an_apology_before_the_carrier_gives_up(
    served: Served, autojump_clock: trio.testing.MockClock
) -> None:
    served.desk.hangs = True
    async with served.client() as client:
        started = trio.current_time()
        answer = await client.post("/twilio/voice", VOICE, signed_for=f"{BASE}/twilio/voice")
        assert trio.current_time() - started < 10
    assert b"<Hangup" in answer.body


async def test_query_is_part_of_the_signed_address(
    served: Served, autojump_clock: trio.testing.MockClock
) -> None:
    async with served.client() as client:
        target = "/twilio/voice?tenant=acme"
        assert (await client.post(target, VOICE, signed_for=BASE + target)).status == 200
        assert (await client.post(target, VOICE, signed_for=f"{BASE}/twilio/voice")).status == 403


async def test_path_of_the_public_address_may_be_stripped_by_a_proxy_or_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    served = Served(base=f"{BASE}/edge")
    async with served.client() as client:
        for path in ("/twilio/voice", "/edge/twilio/voice"):
            answer = await client.post(path, VOICE, signed_for=f"{BASE}/edge/twilio/voice")
            assert answer.status == 200


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/twilio/voice", 405), ("POST", "/x", 404)])
async def test_wrong_method_and_wrong_path(
    method: str, path: str, status: int, served: Served, autojump_clock: trio.testing.MockClock
) -> None:
    async with served.client() as client:
        answer = await client.request(method, path)
    assert answer.status == status
    assert answer.text.count("\n") == 1
    assert (answer.headers.get("allow") == "POST") == (status == 405)


@pytest.mark.parametrize(
    "body", [b"CallSid=%zz", b"CallSid=%ff", b"\xff=1", b"&".join([b"a=1"] * 201), b"{}"]
)
async def test_what_is_no_form_gets_400_when_nothing_is_signed_and_403_otherwise(
    body: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    kind = "application/json" if body == b"{}" else "application/x-www-form-urlencoded"
    for verify, status in ((False, 400), (True, 403)):
        served = Served(verify=verify)
        async with served.client() as client:
            answer = await client.request(
                "POST", "/twilio/voice", headers={"content-type": kind, "x-twilio-signature": "x"}, body=body
            )
        assert answer.status == status
        assert served.desk.asked == []


fields = st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=20)


@given(fields.filter(lambda pairs: all(name.isprintable() for name, _ in pairs)))
def test_forms_are_read_as_they_were_written(pairs: list[tuple[str, str]]) -> None:
    pairs = [(name, value) for name, value in pairs if name or value]
    body = urlencode(pairs).encode()
    assert list(parse_form("application/x-www-form-urlencoded; charset=utf-8", body).fields) == pairs


@given(st.binary(max_size=200))
def test_any_body_is_a_form_or_a_sentence(body: bytes) -> None:
    complaint = ""
    try:
        parse_form("application/x-www-form-urlencoded", body)
    except BadForm as error:
        complaint = str(error)
    assert "\n" not in complaint
