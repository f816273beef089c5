"""Path tokens: they say which call and which generation a media socket belongs to, and only we can make them.

A token is stateless, so that every process with the same configuration can check a token of any other, also
after a crash. That each is used once is the desk's knowledge: a generation that was attached is used.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

_PURPOSE = b"callrt media path token, version 1"
_TOKEN_CHARS_MAX = 512
_CALL_SID_CHARS_MAX = 128
_GENERATION_MAX = 1_000_000


class PathTokens:
    """Issues and checks path tokens under a key derived from the carrier's auth token."""

    def __init__(self, auth_token: str) -> None:
        # Derived, so that a token tells nothing about the auth token's other uses.
        self._key = hmac.new(auth_token.encode(), _PURPOSE, hashlib.sha256).digest()

    def __repr__(self) -> str:
        return "PathTokens(…)"

    def issue(self, call_sid: str, generation: int) -> str:
        """The token of this call's stream of this generation; always the same one. URL-safe, no padding."""
        if not 1 <= len(call_sid) <= _CALL_SID_CHARS_MAX:
            raise ValueError(f"a call's identity has 1 to {_CALL_SID_CHARS_MAX} characters")
        if not 0 <= generation <= _GENERATION_MAX:
            raise ValueError(f"a generation is between 0 and {_GENERATION_MAX}")
        claim = f"{generation}.{call_sid}".encode()
        mac = hmac.new(self._key, claim, hashlib.sha256).digest()
        return f"{_encode(claim)}.{_encode(mac)}"

    def verify(self, token: str) -> tuple[str, int] | None:
        """``(call_sid, generation)`` of a token of ours, or None. Never raises."""
        if len(token) > _TOKEN_CHARS_MAX:
            return None
        claim_text, dot, _mac = token.partition(".")
        claim = _decode(claim_text) if dot else None
        if claim is None:
            return None
        digits, dot, call_sid = claim.partition(".")
        if not dot or not digits.isdecimal() or not digits.isascii() or len(digits) > 7:
            return None
        try:
            # The whole token is made again and compared: no second spelling of a token is valid.
            expected = self.issue(call_sid, int(digits))
        except ValueError:
            return None
        if not hmac.compare_digest(expected.encode(), token.encode("utf-8", "replace")):
            return None
        return call_sid, int(digits)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> str | None:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return data.decode()
    except (binascii.Error, ValueError):
        return None
