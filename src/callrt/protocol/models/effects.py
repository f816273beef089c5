"""What a model session asks of the call: the effects that ``session.py`` returns and the model actor carries out."""

from __future__ import annotations

import attrs

from callrt.protocol.faults import FaultKind
from callrt.protocol.models.events import ModelCommand


@attrs.frozen
class Send:
    """Write this to the model."""

    command: ModelCommand
    event_id: str | None = None


@attrs.frozen
class Speak:
    """Audio of the reply, for the mouth. ``item`` is unique within the call, not only within the session."""

    item: str
    content_index: int
    audio: bytes


@attrs.frozen
class SpeechComplete:
    """No more audio of this item will come."""

    item: str
    whole: bool = True
    """False: generation was cut short (failed, cancelled, incomplete): the words that came are not all."""


@attrs.frozen
class Words:
    item: str
    text: str
    final: bool


@attrs.frozen
class BargeIn:
    """The caller has begun to speak: silence the mouth first, then tell the model what was heard."""

    item: str
    at_ms: int


@attrs.frozen
class SpeechPaused:
    """The caller has stopped speaking, at this millisecond of the session's audio."""

    item: str
    at_ms: int


@attrs.frozen
class TurnTaken:
    """The caller's speech is now a turn; its words may come later."""

    item: str


@attrs.frozen
class CallerWords:
    item: str
    text: str


@attrs.frozen
class RunTool:
    call_id: str
    name: str
    arguments: str


@attrs.frozen
class WentLive:
    """The handshake and the replay are over: the caller's audio may flow."""


@attrs.frozen
class Useful:
    """The session has done something for the caller: failures before it are forgiven."""


@attrs.frozen
class Trouble:
    """A failure is known while a reply is owed, and the session goes on: comfort may be due."""

    kind: FaultKind
    detail: str = ""


@attrs.frozen
class ReplyOver:
    """The model has finished a reply, spoken or not; nothing of it is still to come."""


@attrs.frozen
class Noticed:
    """A fault to be counted and nothing more."""

    kind: FaultKind
    detail: str = ""


@attrs.frozen
class SessionFailed:
    """This session cannot go on."""

    kind: FaultKind
    detail: str = ""


Effect = (
    Send
    | Speak
    | SpeechComplete
    | Words
    | BargeIn
    | SpeechPaused
    | TurnTaken
    | CallerWords
    | RunTool
    | WentLive
    | Useful
    | Trouble
    | ReplyOver
    | Noticed
    | SessionFailed
)
