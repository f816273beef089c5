"""Documents, rendered as TwiML.

A stream is always inside ``<Connect action=…>``: when it ends, for whatever reason, Twilio asks the action
address what to do, and that question is the only chance to rescue the call (Twilio never re-dials a stream).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import assert_never
from xml.etree import ElementTree

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
from callrt.telephony.urls import Urls

CONTENT_TYPE = "text/xml; charset=utf-8"

SAY_CHARS_MAX = 3000
"""Twilio refuses a ``<Say>`` over 4096 characters and a whole document over 64 kB; a summary is far below."""

# Control characters and lone surrogates cannot stand in XML 1.0 at all, not even escaped.
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# Twilio wants a region with most languages. Others are passed on as they are.
_REGIONS = {
    "da": "da-DK",
    "de": "de-DE",
    "en": "en-US",
    "es": "es-ES",
    "fi": "fi-FI",
    "fr": "fr-FR",
    "hi": "hi-IN",
    "it": "it-IT",
    "ja": "ja-JP",
    "ko": "ko-KR",
    "nb": "nb-NO",
    "nl": "nl-NL",
    "pl": "pl-PL",
    "pt": "pt-BR",
    "ru": "ru-RU",
    "sv": "sv-SE",
    "tr": "tr-TR",
    "zh": "zh-CN",
}


def render(document: Document, urls: Urls, issue_token: Callable[[str, int], str]) -> str:
    """One TwiML document. ``issue_token(call_sid, generation)`` is asked for a stream's path token."""
    response = ElementTree.Element("Response")
    match document:
        case ConnectStream():
            _connect(response, document, urls, issue_token)
        case AskAgain():
            ElementTree.SubElement(response, "Pause", length=str(document.pause_seconds))
            ElementTree.SubElement(response, "Redirect", method="POST").text = urls.action
        case DialHuman():
            _dial(response, document, urls)
        case Whisper():
            _say(response, document.text, document.language)
        case SayAndHangUp():
            _say(response, document.text, document.language)
            ElementTree.SubElement(response, "Hangup")
        case HangUp():
            ElementTree.SubElement(response, "Hangup")
        case Nothing():
            pass
        case _:
            assert_never(document)
    return '<?xml version="1.0" encoding="UTF-8"?>' + ElementTree.tostring(response, encoding="unicode")


def _connect(
    response: ElementTree.Element,
    document: ConnectStream,
    urls: Urls,
    issue_token: Callable[[str, int], str],
) -> None:
    if document.pause_seconds > 0:
        ElementTree.SubElement(response, "Pause", length=str(document.pause_seconds))
    connect = ElementTree.SubElement(response, "Connect", action=urls.action, method="POST")
    token = issue_token(document.call_sid, document.generation)
    stream = ElementTree.SubElement(
        connect,
        "Stream",
        url=urls.media(token),
        statusCallback=urls.stream_status,
        statusCallbackMethod="POST",
    )
    ElementTree.SubElement(stream, "Parameter", name="generation", value=str(document.generation))


def _dial(response: ElementTree.Element, document: DialHuman, urls: Urls) -> None:
    dial = ElementTree.SubElement(
        response,
        "Dial",
        timeout=str(document.timeout_seconds),
        answerOnBridge="true",
        action=urls.dial_ended,
        method="POST",
    )
    number = ElementTree.SubElement(dial, "Number", url=urls.whisper, method="POST")
    number.text = _printable(document.number)


def _say(response: ElementTree.Element, text: str, language: str) -> None:
    attributes = {"language": _REGIONS.get(language, language)} if language else {}
    say = ElementTree.SubElement(response, "Say", attributes)
    say.text = _printable(text)[:SAY_CHARS_MAX]


def _printable(text: str) -> str:
    return _NOT_IN_XML.sub("", text)
