"""What a call of the emulated carrier does next, and how it can end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from callrt.testing.twiml_player import Verb

GOODBYE_SECONDS = 5.0
"""How long a call that is over waits for its sockets to close and its callbacks to be answered."""

APPLICATION_ERROR = "We are sorry. An application error has occurred. Goodbye."

EndReason = Literal["", "caller_hung_up", "app_hung_up", "rejected", "application_error", "too_long"]


@attrs.frozen
class Fetch:
    """A document is asked for."""

    kind: str
    url: str
    method: str
    extra: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Play:
    """A document is executed."""

    verbs: tuple[Verb, ...]
    url: str


Step = Fetch | Play
