"""The addresses that Twilio is given, all derived from ``public_url``.

Signatures cover these exact strings, so they are made here once and never rebuilt from a ``Host`` header:
a proxy may change what the request says about itself, but not what the carrier was told.
"""

from __future__ import annotations

import attrs

VOICE = "/twilio/voice"
ACTION = "/twilio/action"
STREAM_STATUS = "/twilio/stream-status"
STATUS = "/twilio/status"
DIAL_ENDED = "/twilio/dial-ended"
WHISPER = "/twilio/whisper"
MEDIA_PREFIX = "/twilio/media/"


def _without_slash(url: str) -> str:
    return url.rstrip("/")


@attrs.define
class Urls:
    """Absolute addresses of one deployment. ``public_url`` is http or https; a trailing slash is ignored. It may be
    set again until the first carrier asks: a port that the system chooses is known when it is open."""

    public_url: str = attrs.field(converter=_without_slash)

    @public_url.validator
    def _is_http(self, _attribute: object, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError("public_url must begin with http:// or https://")

    @property
    def voice(self) -> str:
        return self.public_url + VOICE

    @property
    def action(self) -> str:
        return self.public_url + ACTION

    @property
    def stream_status(self) -> str:
        return self.public_url + STREAM_STATUS

    @property
    def status(self) -> str:
        return self.public_url + STATUS

    @property
    def dial_ended(self) -> str:
        return self.public_url + DIAL_ENDED

    @property
    def whisper(self) -> str:
        return self.public_url + WHISPER

    def media(self, token: str) -> str:
        """The stream address: https gives wss, http gives ws. The token is in the path, because Twilio drops
        query strings of stream addresses."""
        return "ws" + self.public_url.removeprefix("http") + MEDIA_PREFIX + token

    @property
    def path_prefix(self) -> str:
        """The path of ``public_url`` itself (usually ""): a proxy may or may not strip it."""
        rest = self.public_url.split("://", 1)[1]
        slash = rest.find("/")
        return "" if slash < 0 else rest[slash:]
