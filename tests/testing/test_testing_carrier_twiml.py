"""TwiML is read strictly: what plays in the emulator plays on the telephone."""

from __future__ import annotations

import pytest

from callrt.protocol.carriers.documents import (
    ConnectStream,
    DialHuman,
    HangUp,
    Nothing,
    SayAndHangUp,
    Whisper,
)
from callrt.telephony.twiml import render
from callrt.telephony.urls import Urls
from callrt.testing.twiml_player import (
    Connect,
    DialNumber,
    Hangup,
    Pause,
    Redirect,
    Reject,
    Say,
    TwimlError,
    parse_twiml,
)

HERE = "https://app.test/twilio/voice"


def test_our_own_documents_are_understood() -> None:
    urls = Urls("https://app.test")

    def parsed(document: object) -> tuple[object, ...]:
        return parse_twiml(render(document, urls, lambda sid, generation: "token"), HERE)  # type: ignore[arg-type]

    pause, connect = parsed(ConnectStream("CA1", 2, pause_seconds=1))
    assert pause == Pause(1)
    assert isinstance(connect, Connect)
    assert connect.url == "wss://app.test/twilio/media/token"
    assert connect.action == "https://app.test/twilio/action"
    assert connect.parameters == {"generation": "2"}
    (dial,) = parsed(DialHuman("CA1", "+15550100009"))
    assert isinstance(dial, DialNumber)
    assert (dial.number, dial.timeout, dial.answer_on_bridge) == ("+15550100009", 20, True)
    assert dial.whisper_url == "https://app.test/twilio/whisper"
    assert parsed(SayAndHangUp("Sorry & goodbye.", "de")) == (Say("Sorry & goodbye.", "de-DE"), Hangup())
    assert parsed(Whisper("A caller.")) == (Say("A caller.", "en-US"),)
    assert parsed(HangUp()) == (Hangup(),)
    assert parsed(Nothing()) == ()


def test_addresses_are_resolved_against_the_document() -> None:
    (redirect,) = parse_twiml("<Response><Redirect>../resume?x=1</Redirect></Response>", HERE)
    assert redirect == Redirect("https://app.test/resume?x=1", "POST")
    (dial,) = parse_twiml('<Response><Dial action="after" method="GET">+1555</Dial></Response>', HERE)
    assert isinstance(dial, DialNumber)
    assert (dial.action, dial.method, dial.timeout) == ("https://app.test/twilio/after", "GET", 30)


def test_reject_and_repeated_say() -> None:
    assert parse_twiml('<Response><Reject reason="busy"/></Response>', HERE) == (Reject("busy"),)
    (say,) = parse_twiml('<Response><Say loop="2" voice="alice">Hello\n  there</Say></Response>', HERE)
    assert say == Say("Hello there", "en-US", 2)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", 12100),
        ("<Response>", 12100),
        ("<Answer/>", 12200),
        ("<Response><Sing/></Response>", 12200),
        ("<Response><Hangup now='1'/></Response>", 12200),
        ("<Response><Pause length='soon'/></Response>", 12200),
        ("<Response><Connect/></Response>", 12200),
        ("<Response><Connect><Stream url='https://a.test/m'/></Connect></Response>", 31922),
        ("<Response><Connect><Stream/></Connect></Response>", 31922),
        ("<Response><Connect><Stream url='wss://a.test/m?token=1'/></Connect></Response>", 31920),
        ("<Response><Connect><Stream url='wss://a.test/m' track='both_tracks'/></Connect></Response>", 31941),
        ("<Response><Connect><Stream url='wss://a.test/m' codec='opus'/></Connect></Response>", 12200),
        (
            "<Response><Connect><Stream url='wss://a.test/m'><Parameter name='n' value='"
            + "v" * 499
            + "'/></Stream></Connect></Response>",
            12200,
        ),
        ("<Response><Dial>nobody</Dial></Response>", 13224),
        ("<Response><Dial><Sip>sip:a@b</Sip></Dial></Response>", 12200),
        ("<Response><Redirect>ftp://a.test</Redirect></Response>", 11100),
        ("<Response><Redirect method='PUT'>/a</Redirect></Response>", 12200),
    ],
)
def test_document_that_the_carrier_rejects_is_refused_with_its_code(body: str, code: int) -> None:
    with pytest.raises(TwimlError) as caught:
        parse_twiml(body, HERE)
    assert caught.value.code == code
