"""Strict, bounded parsing of form bodies: what cannot be parsed was not sent by a carrier."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import attrs

FIELDS_MAX = 200
"""A Twilio webhook has 15 to 40 fields."""

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class BadForm(Exception):
    """The body is not a form within bounds. Holds a static sentence, never a part of the body."""


@attrs.frozen
class Form:
    """Fields in the order of the body; a name may stand more than once."""

    fields: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """The first value of this name, "" if there is none."""
        return next((value for key, value in self.fields if key == name), "")


def parse_form(content_type: str | None, body: bytes) -> Form:
    """An ``application/x-www-form-urlencoded`` body in UTF-8. Raises :class:`BadForm`."""
    if not body:
        return Form(())
    kind = (content_type or "").split(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise BadForm("the body must be application/x-www-form-urlencoded")
    try:
        text = body.decode("ascii")
    except UnicodeDecodeError:
        raise BadForm("the body is not a valid form") from None
    pieces = [piece for piece in text.split("&", FIELDS_MAX + 1) if piece]
    if len(pieces) > FIELDS_MAX:
        raise BadForm(f"the form has more than {FIELDS_MAX} fields")
    fields = []
    for piece in pieces:
        name, _, value = piece.partition("=")
        fields.append((_decode(name), _decode(value)))
    return Form(tuple(fields))


def _decode(text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise BadForm("the body is not a valid form")
    try:
        return unquote_to_bytes(text.replace("+", " ")).decode()
    except UnicodeDecodeError:
        raise BadForm("the body is not a valid form") from None
