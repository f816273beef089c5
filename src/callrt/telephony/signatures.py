"""Twilio's request signatures: HMAC-SHA1 over the address and the sorted form fields, in base64.

The socket's upgrade is signed the same way over the ``wss://`` (or ``ws://``) address and without fields. A
signature has no nonce: it proves that the carrier knows the address, not that this is the first time. For
sockets the path token adds what is missing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit, urlunsplit

HEADER = "x-twilio-signature"
"""Lower case; Twilio sends it in either case."""

_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


def sign(key: str, url: str, fields: Iterable[tuple[str, str]] = ()) -> str:
    """The signature that Twilio sends with a request to ``url``. Of a repeated field each distinct value
    counts once, in sorted order; empty values count."""
    by_name: dict[str, set[str]] = {}
    for name, value in fields:
        by_name.setdefault(name, set()).add(value)
    signed = url + "".join(name + value for name in sorted(by_name) for value in sorted(by_name[name]))
    digest = hmac.new(key.encode(), signed.encode("utf-8", "surrogatepass"), hashlib.sha1).digest()
    return base64.b64encode(digest).decode("ascii")


def verify_webhook(keys: Sequence[str], url: str, fields: Iterable[tuple[str, str]], signature: str) -> bool:
    """Did a holder of one of ``keys`` sign this request? Several keys, so that a key can be rotated.

    Takes the same time for every signature of a given request.
    """
    pairs = list(fields)
    given = signature.encode("utf-8", "replace")
    valid = False
    for variant in _port_variants(url):
        for key in keys:
            valid |= hmac.compare_digest(sign(key, variant, pairs).encode(), given)
    return valid


def verify_upgrade(keys: Sequence[str], url: str, signature: str) -> bool:
    """The same for a socket's upgrade; ``url`` is the exact stream address of the document, wss or ws."""
    if urlsplit(url).scheme not in ("ws", "wss"):
        raise ValueError("a media socket's address begins with ws:// or wss://")
    return verify_webhook(keys, url, (), signature)


def _port_variants(url: str) -> list[str]:
    """Twilio is not consistent about ports in what it signs: with one, accept it without; without one, accept
    the scheme's default."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        return [url]
    if port is None:
        default = _DEFAULT_PORTS.get(parts.scheme)
        netloc = f"{parts.netloc.rstrip(':')}:{default}"
        return [url] if default is None else [url, urlunsplit(parts._replace(netloc=netloc))]
    netloc = parts.netloc.rpartition(":")[0]
    return [url, urlunsplit(parts._replace(netloc=netloc))]
