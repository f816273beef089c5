"""What we answer when a carrier asks "what next?": documents as values, and the one rule that picks them.

``telephony/twiml.py`` renders them for Twilio. A document with a stream always carries an action address, so
that the end of the stream is asked about again: that is the whole rescue (Twilio never re-dials a stream).
"""

from __future__ import annotations

import attrs


@attrs.frozen
class ConnectStream:
    """Open a media stream of this generation for this call; when it ends, ask again."""

    call_sid: str
    generation: int
    pause_seconds: int = 0
    """Wait first, so that a dead media port does not make a hot loop."""


@attrs.frozen
class AskAgain:
    """Wait, then ask what comes next: nobody can say yet."""

    pause_seconds: int = 1


@attrs.frozen
class DialHuman:
    """Connect the caller with a human, who hears a summary before the caller is on the line."""

    call_sid: str
    number: str
    timeout_seconds: int = 20


@attrs.frozen
class Whisper:
    """What the human hears after answering and before the caller is connected."""

    text: str
    language: str = "en"


@attrs.frozen
class SayAndHangUp:
    text: str
    language: str = "en"


@attrs.frozen
class HangUp:
    pass


@attrs.frozen
class Nothing:
    """An empty document: for callbacks that want none."""


Document = ConnectStream | AskAgain | DialHuman | Whisper | SayAndHangUp | HangUp | Nothing
