"""TwiML: what each document becomes, held against the carrier's own builders."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.twiml.voice_response import VoiceResponse

from callrt.protocol.carriers.documents import (
    AskAgain,
    ConnectStream,
    DialHuman,
    Document,
    HangUp,
    Nothing,
    SayAndHangUp,
    Whisper,
)
from callrt.telephony.twiml import SAY_CHARS_MAX, render
from callrt.telephony.urls import Urls

URLS = Urls("https://calls.example.org/")
BASE = "https://calls.example.org"


def token(call_sid: str, generation: int) -> str:
    return f"t-{call_sid}-{generation}"


def parsed(document: Document, urls: Urls = URLS) -> ElementTree.Element:
    return ElementTree.fromstring(render(document, urls, token))


def same(ours: ElementTree.Element, theirs: VoiceResponse) -> bool:
    return ElementTree.canonicalize(ElementTree.tostring(ours)) == ElementTree.canonicalize(theirs.to_xml())


def test_stream_document_is_the_one_of_the_carriers_builder() -> None:
    theirs = VoiceResponse()
    theirs.pause(length=1)
    connect = theirs.connect(action=f"{BASE}/twilio/action", method="POST")
    stream = connect.stream(
        url="wss://calls.example.org/twilio/media/t-CA7-3",
        status_callback=f"{BASE}/twilio/stream-status",
        status_callback_method="POST",
    )
    stream.parameter(name="generation", value="3")
    assert same(parsed(ConnectStream("CA7", 3, pause_seconds=1)), theirs)


def test_stream_document_without_a_pause_connects_at_once() -> None:
    assert [child.tag for child in parsed(ConnectStream("CA7", 1))] == ["Connect"]


def test_nothing_follows_connect_so_that_the_action_alone_decides() -> None:
    assert parsed(ConnectStream("CA7", 1))[-1].tag == "Connect"
    assert parsed(ConnectStream("CA7", 1))[-1].get("action") == f"{BASE}/twilio/action"


def test_http_gives_ws_and_keeps_port_and_path() -> None:
    root = parsed(ConnectStream("CA7", 1), Urls("http://127.0.0.1:8080/edge"))
    stream = root.find("Connect/Stream")
    assert stream is not None
    assert stream.get("url") == "ws://127.0.0.1:8080/edge/twilio/media/t-CA7-1"


def test_dial_document_is_the_one_of_the_carriers_builder() -> None:
    theirs = VoiceResponse()
    dial = theirs.dial(timeout=20, answer_on_bridge=True, action=f"{BASE}/twilio/dial-ended", method="POST")
    dial.number("+15550100009", url=f"{BASE}/twilio/whisper", method="POST")
    assert same(parsed(DialHuman("CA7", "+15550100009")), theirs)


def test_say_and_hang_up_and_whisper_are_those_of_the_carriers_builder() -> None:
    theirs = VoiceResponse()
    theirs.say("Tschüß & <bye>", language="de-DE")
    theirs.hangup()
    assert same(parsed(SayAndHangUp("Tschüß & <bye>", "de")), theirs)
    theirs = VoiceResponse()
    theirs.say("A caller", language="en-GB")
    assert same(parsed(Whisper("A caller", "en-GB")), theirs)


def test_ask_again_is_the_one_of_the_carriers_builder() -> None:
    expected = VoiceResponse()
    expected.pause(length=1)
    expected.redirect(URLS.action, method="POST")
    assert same(parsed(AskAgain()), expected)


def test_hang_up_and_nothing_are_those_of_the_carriers_builder() -> None:
    theirs = VoiceResponse()
    theirs.hangup()
    assert same(parsed(HangUp()), theirs)
    assert same(parsed(Nothing()), VoiceResponse())


@given(st.text())
def test_any_text_is_said_as_it_is_or_without_what_xml_cannot_hold(text: str) -> None:
    say = parsed(Whisper(text)).find("Say")
    assert say is not None
    assert len(say) == 0
    said = say.text or ""
    kept = "".join(c for c in text if c in "\t\n\r" or (c >= " " and not "\ud800" <= c <= "\udfff"))
    kept = kept.replace("\ufffe", "").replace("\uffff", "")
    assert said == kept.replace("\r\n", "\n").replace("\r", "\n")[: len(said)]
    assert len(said) >= min(len(kept.replace("\r\n", "\n")), 1)


def test_long_text_is_cut() -> None:
    say = parsed(Whisper("x" * 100_000)).find("Say")
    assert say is not None
    assert len(say.text or "") == SAY_CHARS_MAX


@pytest.mark.parametrize("url", ["ftp://h", "", "calls.example.org", "wss://h"])
def test_public_address_must_be_http(url: str) -> None:
    with pytest.raises(ValueError, match="http"):
        Urls(url)


def test_every_address_stands_on_the_public_one() -> None:
    addresses = [URLS.voice, URLS.action, URLS.stream_status, URLS.status, URLS.dial_ended, URLS.whisper]
    assert all(address.startswith(f"{BASE}/twilio/") for address in addresses)
    assert len(set(addresses)) == len(addresses)
    assert (URLS.path_prefix, Urls("http://h/a/b").path_prefix) == ("", "/a/b")
