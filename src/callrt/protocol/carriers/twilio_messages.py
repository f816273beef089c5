"""The JSON messages of Twilio Media Streams as the wire has them; ``twilio.py`` says what they mean.

Numbers arrive as strings, from look-alikes also as numbers.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Text = str | int | None


class Format(msgspec.Struct, gc=False):
    encoding: str | None = None
    sampleRate: Text = None
    channels: Text = None


class Media(msgspec.Struct, gc=False):
    payload: str | None = None
    track: str | None = None
    chunk: Text = None
    timestamp: Text = None


class Start(msgspec.Struct):
    streamSid: str | None = None
    callSid: str | None = None
    accountSid: str | None = None
    tracks: tuple[str, ...] | None = None
    mediaFormat: Format | None = None
    customParameters: dict[str, str | int | float | bool | None] | None = None


class Mark(msgspec.Struct, gc=False):
    name: Text = None


class Dtmf(msgspec.Struct, gc=False):
    digit: Text = None


class Stop(msgspec.Struct, gc=False):
    callSid: str | None = None


class Envelope(msgspec.Struct):
    event: str | None = None
    streamSid: str | None = None
    sequenceNumber: Text = None
    media: Media | None = None
    start: Start | None = None
    mark: Mark | None = None
    dtmf: Dtmf | None = None
    stop: Stop | None = None
    protocol: Text = None
    version: Text = None
    customParameters: dict[str, str | int | float | bool | None] | None = None


class NextMedia(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    track: Literal["inbound"]
    chunk: str
    timestamp: str
    payload: bytes
    """Decoded from base64 by the parser; it takes less than ``a2b_base64`` does, never more."""


class Next(msgspec.Struct, gc=False, forbid_unknown_fields=True, tag_field="event", tag="media"):
    """A media message with all that Twilio puts into it, and nothing else."""

    streamSid: str
    sequenceNumber: str
    media: NextMedia
