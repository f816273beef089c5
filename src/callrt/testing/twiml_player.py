"""TwiML as values: the verbs that the emulated carrier executes, read strictly.

What the real carrier would reject or silently drop is refused here with the carrier's own error code, so
that a document which plays in the emulator plays on the telephone.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Final
from urllib.parse import urljoin, urlsplit

import attrs

PARAMETER_CHARACTERS_MAX: Final = 499
"""Name plus value of one ``<Parameter>``; the carrier wants it under 500."""


class TwimlError(ValueError):
    """The document cannot be executed. ``code`` is the carrier's error code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@attrs.frozen
class Connect:
    """A bidirectional stream; blocks until the stream is over."""

    url: str
    parameters: Mapping[str, str]
    action: str | None
    method: str
    status_callback: str | None
    status_method: str
    name: str | None


@attrs.frozen
class Say:
    text: str
    language: str
    loop: int = 1


@attrs.frozen
class Pause:
    seconds: float


@attrs.frozen
class Redirect:
    url: str
    method: str


@attrs.frozen
class DialNumber:
    number: str
    timeout: float
    action: str | None
    method: str
    whisper_url: str | None
    """What the callee hears before being connected."""
    whisper_method: str
    answer_on_bridge: bool


@attrs.frozen
class Hangup:
    pass


@attrs.frozen
class Reject:
    reason: str


Verb = Connect | Say | Pause | Redirect | DialNumber | Hangup | Reject


def parse_twiml(body: str | bytes, document_url: str) -> tuple[Verb, ...]:
    """The verbs in order; addresses are resolved against ``document_url``.

    :raises TwimlError: not XML, no ``<Response>``, an unknown verb or attribute, a bad address.
    """
    try:
        root = ET.fromstring(body)
    except ET.ParseError as error:
        raise TwimlError(12100, f"document parse failure: {error}") from error
    if root.tag != "Response":
        raise TwimlError(12200, f"the root element is <{root.tag}>, not <Response>")
    return tuple(_verb(element, document_url) for element in root)


def _verb(element: ET.Element, base: str) -> Verb:
    match element.tag:
        case "Connect":
            return _connect(element, base)
        case "Dial":
            return _dial(element, base)
        case "Say":
            _known(element, "voice", "language", "loop")
            return Say(
                text=" ".join("".join(element.itertext()).split()),
                language=element.get("language", "en-US"),
                loop=_integer(element, "loop", 1),
            )
        case "Pause":
            _known(element, "length")
            return Pause(seconds=_integer(element, "length", 1))
        case "Redirect":
            _known(element, "method")
            return Redirect(url=_address(element.text or "", base), method=_method(element, "method"))
        case "Hangup":
            _known(element)
            return Hangup()
        case "Reject":
            _known(element, "reason")
            return Reject(reason=element.get("reason", "rejected"))
        case other:
            raise TwimlError(12200, f"<{other}> is no verb that this carrier executes")


def _connect(element: ET.Element, base: str) -> Connect:
    _known(element, "action", "method")
    streams = list(element)
    if len(streams) != 1 or streams[0].tag != "Stream":
        raise TwimlError(12200, "<Connect> wants exactly one <Stream>")
    stream = streams[0]
    _known(stream, "url", "name", "track", "statusCallback", "statusCallbackMethod")
    if stream.get("track", "inbound_track") != "inbound_track":
        raise TwimlError(31941, "a bidirectional stream has the inbound track only")
    url = stream.get("url", "")
    parts = urlsplit(url)
    if parts.scheme not in ("wss", "ws") or not parts.netloc:
        raise TwimlError(31922, f"the stream's address has the scheme {parts.scheme!r}, not wss")
    if parts.query:
        raise TwimlError(31920, "the stream's address has a query string; use <Parameter> or the path")
    parameters: dict[str, str] = {}
    for child in stream:
        if child.tag != "Parameter":
            raise TwimlError(12200, f"<{child.tag}> is not allowed in <Stream>")
        _known(child, "name", "value")
        name, value = child.get("name", ""), child.get("value", "")
        if not name or len(name) + len(value) > PARAMETER_CHARACTERS_MAX:
            raise TwimlError(12200, "a <Parameter> wants a name, and both under 500 characters")
        parameters[name] = value
    return Connect(
        url=url,
        parameters=parameters,
        action=_optional_address(element, "action", base),
        method=_method(element, "method"),
        status_callback=_optional_address(stream, "statusCallback", base),
        status_method=_method(stream, "statusCallbackMethod"),
        name=stream.get("name"),
    )


def _dial(element: ET.Element, base: str) -> DialNumber:
    _known(element, "action", "method", "timeout", "answerOnBridge", "callerId", "timeLimit", "record")
    children = list(element)
    number, whisper, whisper_method = (element.text or "").strip(), None, "POST"
    if children:
        if len(children) != 1 or children[0].tag != "Number":
            raise TwimlError(12200, "<Dial> wants one <Number> here")
        _known(children[0], "url", "method", "statusCallback", "statusCallbackEvent", "sendDigits")
        number = (children[0].text or "").strip()
        whisper = _optional_address(children[0], "url", base)
        whisper_method = _method(children[0], "method")
    if not number.removeprefix("+").isdigit():
        raise TwimlError(13224, "the dialled number is not a telephone number")
    return DialNumber(
        number=number,
        timeout=_integer(element, "timeout", 30),
        action=_optional_address(element, "action", base),
        method=_method(element, "method"),
        whisper_url=whisper,
        whisper_method=whisper_method,
        answer_on_bridge=element.get("answerOnBridge", "false") == "true",
    )


def _known(element: ET.Element, *names: str) -> None:
    for name in element.keys():  # noqa: SIM118 (an Element is no mapping)
        if name not in names:
            raise TwimlError(12200, f"<{element.tag}> has no attribute {name!r}")


def _integer(element: ET.Element, name: str, default: int) -> int:
    text = element.get(name, str(default))
    if not text.isdigit():
        raise TwimlError(12200, f"{name}={text!r} of <{element.tag}> is not a whole number")
    return int(text)


def _method(element: ET.Element, name: str) -> str:
    method = element.get(name, "POST").upper()
    if method not in ("GET", "POST"):
        raise TwimlError(12200, f"{name}={method!r} of <{element.tag}> is neither GET nor POST")
    return method


def _optional_address(element: ET.Element, name: str, base: str) -> str | None:
    text = element.get(name)
    return None if text is None else _address(text, base)


def _address(text: str, base: str) -> str:
    url = urljoin(base, text.strip())
    if urlsplit(url).scheme not in ("http", "https"):
        raise TwimlError(11100, f"{text!r} is not an http address")
    return url
