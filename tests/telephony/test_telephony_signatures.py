"""Signatures: the vectors of the fact sheet, and agreement with the carrier's own package."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from callrt.telephony.signatures import sign, verify_upgrade, verify_webhook

TOKEN = "0123456789abcdef0123456789abcdef"
VOICE = [
    ("CallSid", "CA00000000000000000000000000000001"),
    ("From", "+15550100001"),
    ("To", "+15550100002"),
    ("CallStatus", "ringing"),
    ("Direction", "inbound"),
]
VECTORS = [
    ("https://calls.example.org/voice/inbound?tenant=acme", VOICE, "VoC0f62rHt0rKWFQyoKFHcGuodQ="),
    ("wss://calls.example.org/media", [], "8T3jRzntrBXJ88aSEyVHeEbcvvE="),
    ("wss://calls.example.org/media/", [], "oKI4L2kE1+KycErCq84VGJbFcqk="),
    ("https://calls.example.org/media", [], "y9VNi8j8Vuxu1NUcozuxBKPPxug="),
    (
        "https://calls.example.org/cb",
        [
            ("A", ""),
            ("StatusCallbackEvent", "ringing"),
            ("StatusCallbackEvent", "answered"),
            ("StatusCallbackEvent", "ringing"),
        ],
        "RlQ6kuucAyQKh4cBCHv6utNCkQk=",
    ),
]


@pytest.mark.parametrize(("url", "fields", "signature"), VECTORS)
def test_signature_of_known_vector_is_made_and_accepted(
    url: str, fields: list[tuple[str, str]], signature: str
) -> None:
    assert sign(TOKEN, url, fields) == signature
    assert verify_webhook([TOKEN], url, fields, signature)


def test_https_signature_does_not_open_a_socket() -> None:
    assert verify_upgrade([TOKEN], "wss://calls.example.org/media", "8T3jRzntrBXJ88aSEyVHeEbcvvE=")
    assert not verify_upgrade([TOKEN], "wss://calls.example.org/media", "y9VNi8j8Vuxu1NUcozuxBKPPxug=")


def test_ws_and_wss_are_different_addresses() -> None:
    signature = sign(TOKEN, "ws://calls.example.org/media")
    assert not verify_upgrade([TOKEN], "wss://calls.example.org/media", signature)


def test_upgrade_address_must_be_a_socket_address() -> None:
    with pytest.raises(ValueError, match="ws://"):
        verify_upgrade([TOKEN], "https://calls.example.org/media", "x")


def test_any_of_several_keys_is_enough() -> None:
    url = "https://h/cb"
    assert verify_webhook(["new", TOKEN], url, VOICE, sign(TOKEN, url, VOICE))
    assert not verify_webhook(["new", "old"], url, VOICE, sign(TOKEN, url, VOICE))
    assert not verify_webhook([], url, VOICE, sign(TOKEN, url, VOICE))


@pytest.mark.parametrize(
    ("told", "signed"),
    [
        ("https://h/cb?a=1", "https://h:443/cb?a=1"),
        ("https://h:443/cb", "https://h/cb"),
        ("https://h:8443/cb", "https://h/cb"),
        ("http://h/cb", "http://h:80/cb"),
        ("wss://h/m", "wss://h:443/m"),
        ("https://[::1]:8080/cb", "https://[::1]/cb"),
    ],
)
def test_default_port_may_be_there_or_not(told: str, signed: str) -> None:
    assert verify_webhook([TOKEN], told, VOICE, sign(TOKEN, signed, VOICE))


@pytest.mark.parametrize("signed", ["https://h:80/cb", "https://h:8443/cb", "http://h/cb", "https://h/cb/"])
def test_other_ports_schemes_and_paths_are_refused(signed: str) -> None:
    assert not verify_webhook([TOKEN], "https://h/cb", VOICE, sign(TOKEN, signed, VOICE))


@pytest.mark.parametrize("signature", ["", "x", "=" * 28, "\udce4", "é" * 28, "A" * 100_000])
def test_garbage_as_a_signature_is_refused(signature: str) -> None:
    assert not verify_webhook([TOKEN], "https://h/cb", VOICE, signature)


hosts = st.from_regex(r"[a-z][a-z0-9.-]{0,20}[a-z0-9]", fullmatch=True)
ports = st.none() | st.integers(1, 65535)
paths = st.from_regex(r"(/[A-Za-z0-9._~-]{0,8}){0,4}", fullmatch=True)
queries = st.from_regex(r"(\?[A-Za-z0-9=&]{1,20})?", fullmatch=True).filter(lambda q: "bodySHA256" not in q)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
forms = st.dictionaries(words, words, max_size=8)


@given(st.sampled_from(["http", "https"]), hosts, ports, paths, queries, forms, st.booleans())
def test_we_sign_and_accept_what_the_carriers_package_does(
    scheme: str, host: str, port: int | None, path: str, query: str, form: dict[str, str], drop_port: bool
) -> None:
    told = f"{scheme}://{host}{f':{port}' if port else ''}{path}{query}"
    signed = f"{scheme}://{host}{path}{query}" if drop_port else told
    theirs = RequestValidator(TOKEN)
    signature = theirs.compute_signature(signed, form)
    assert sign(TOKEN, signed, form.items()) == signature
    assert verify_webhook([TOKEN], told, form.items(), signature)
    assert theirs.validate(told, form, signature)


@given(forms, words, words)
def test_a_changed_field_is_refused_by_both(form: dict[str, str], name: str, value: str) -> None:
    url = "https://calls.example.org/cb"
    signature = sign(TOKEN, url, form.items())
    changed = {**form, name: value}
    theirs = RequestValidator(TOKEN).validate(url, changed, signature)
    assert verify_webhook([TOKEN], url, changed.items(), signature) == theirs
