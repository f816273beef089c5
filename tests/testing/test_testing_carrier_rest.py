"""The REST interface answers as the real one: codes an app must tell apart, and effects it may rely on."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from callrt.testing.carrier_rest import RestInterface
from callrt.testing.carrier_signing import sign

ACCOUNT, TOKEN = "AC1", "0123456789abcdef0123456789abcdef"
BASE = f"/2010-04-01/Accounts/{ACCOUNT}"
CALL = f"{BASE}/Calls/CA1.json"


class FakeCall:
    call_sid, from_number, to_number = "CA1", "+15550100001", "+15550100002"

    def __init__(self) -> None:
        self.status = "in-progress"
        self.redirects: list[tuple[str | None, str, str | None]] = []

    def redirect(self, *, url: str | None = None, method: str = "POST", twiml: str | None = None) -> None:
        self.redirects.append((url, method, twiml))

    def complete(self) -> None:
        self.status = "completed"


def basic(user: str = ACCOUNT, password: str = TOKEN) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def interface() -> tuple[RestInterface, FakeCall]:
    call = FakeCall()
    return RestInterface(ACCOUNT, TOKEN, lambda sid: call if sid == "CA1" else None), call


@pytest.mark.parametrize("header", [None, "", "Bearer x", "Basic %%%", basic(password="wrong"), basic("AC2")])
def test_request_without_the_accounts_credentials_does_nothing(header: str | None) -> None:
    rest, call = interface()
    status, body = rest.handle("POST", CALL, {"Status": "completed"}, header)
    assert (status, body["code"], call.status) == (401, 20003, "in-progress")


def test_live_call_can_be_read_redirected_and_ended() -> None:
    rest, call = interface()
    assert rest.handle("GET", CALL, {}, basic())[1]["status"] == "in-progress"
    rest.handle("POST", CALL, {"Twiml": "<Response/>"}, basic())
    rest.handle("POST", CALL, {"Url": "http://a.test/x", "Method": "GET"}, basic())
    assert call.redirects == [(None, "POST", "<Response/>"), ("http://a.test/x", "GET", None)]
    status, body = rest.handle("POST", CALL, {"Status": "completed"}, basic())
    assert (status, body["status"]) == (200, "completed")
    assert rest.requests[-1] == ("POST", CALL, 200)


@pytest.mark.parametrize(
    "form", [{"Twiml": "<Response/>"}, {"Url": "http://a.test"}, {"Status": "completed"}]
)
def test_call_that_is_over_answers_21220(form: dict[str, str]) -> None:
    rest, call = interface()
    call.complete()
    status, body = rest.handle("POST", CALL, form, basic())
    assert (status, body["code"]) == (400, 21220)
    assert call.redirects == []


def test_unknown_call_answers_20404() -> None:
    rest, _ = interface()
    for method, path in [("GET", f"{BASE}/Calls/CA2.json"), ("POST", f"{BASE}/Calls/CA2.json"), ("GET", "/")]:
        status, body = rest.handle(method, path, {}, basic())
        assert (status, body["code"], body["status"]) == (404, 20404, 404)


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"Twiml": "<Response/>", "Url": "http://a.test"}, 21218),
        ({"Twiml": "x" * 4001}, 21218),
        ({"Status": "paused"}, 21218),
        ({"Status": "canceled"}, 21220),
    ],
)
def test_contradictory_update_is_refused(form: dict[str, str], code: int) -> None:
    rest, call = interface()
    status, body = rest.handle("POST", CALL, form, basic())
    assert (status, body["code"]) == (400, code)
    assert call.redirects == []


def test_burst_of_429_leaves_everything_as_it_was() -> None:
    rest, call = interface()
    rest.fail_next(times=2)
    rest.fail_next(503, 20503)
    answers = [rest.handle("POST", CALL, {"Status": "completed"}, basic()) for _ in range(3)]
    assert [(status, body["code"]) for status, body in answers] == [(429, 20429), (429, 20429), (503, 20503)]
    assert call.status == "in-progress"
    assert rest.handle("POST", CALL, {"Status": "completed"}, basic())[0] == 200


def test_message_is_kept_and_an_incomplete_one_is_refused() -> None:
    rest, _ = interface()
    whole = {"To": "+1", "From": "+2", "Body": "words"}
    status, body = rest.handle("POST", f"{BASE}/Messages.json", whole, basic())
    assert (status, body["status"]) == (201, "queued")
    assert [message.body for message in rest.messages] == ["words"]
    for missing, code in [("To", 21604), ("From", 21603), ("Body", 21602)]:
        form = {name: value for name, value in whole.items() if name != missing}
        assert rest.handle("POST", f"{BASE}/Messages.json", form, basic())[1]["code"] == code
    long = {**whole, "Body": "x" * 1601}
    assert rest.handle("POST", f"{BASE}/Messages.json", long, basic())[1]["code"] == 21617
    assert len(rest.messages) == 1


def test_wrong_method_is_refused() -> None:
    rest, _ = interface()
    assert rest.handle("DELETE", CALL, {}, basic())[0] == 405
    assert rest.handle("GET", f"{BASE}/Messages.json", {}, basic())[0] == 405


@given(st.dictionaries(st.text("ABCdef", min_size=1, max_size=5), st.text(max_size=20), max_size=6))
def test_signature_agrees_with_the_carriers_own_library(form: dict[str, str]) -> None:
    url = "https://calls.example.org/voice/inbound?tenant=acme"
    assert RequestValidator(TOKEN).validate(url, form, sign(TOKEN, url, form))


def test_signature_of_an_upgrade_covers_the_exact_address() -> None:
    assert sign(TOKEN, "wss://calls.example.org/media", {}) == "8T3jRzntrBXJ88aSEyVHeEbcvvE="
    assert sign(TOKEN, "wss://calls.example.org/media/", {}) == "oKI4L2kE1+KycErCq84VGJbFcqk="
