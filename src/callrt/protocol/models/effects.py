"""What a model session asks of the call: the effects that ``session.py`` returns and the model actor carries out."""

from __future__ import annotations

import msgspec

from callrt.protocol.faults import FaultKind
from callrt.protocol.models.events import ModelCommand


class Send(msgspec.Struct, frozen=True, gc=False):
    """Write this to the model."""

    command: ModelCommand
    event_id: str | None = None


class Speak(msgspec.Struct, frozen=True, gc=False):
    """Audio of the reply, for the mouth. ``item`` is unique within the call, not only within the session."""

    item: str
    content_index: int
    audio: bytes


class SpeechComplete(msgspec.Struct, frozen=True, gc=False):
    """No more audio of this item will come."""

    item: str
    whole: bool = True
    """False: generation was cut short (failed, cancelled, incomplete): the words that came are not all."""


class Words(msgspec.Struct, frozen=True, gc=False):
    item: str
    text: str
    final: bool


class BargeIn(msgspec.Struct, frozen=True, gc=False):
    """The caller has begun to speak: silence the mouth first, then tell the model what was heard."""

    item: str
    at_ms: int


class SpeechPaused(msgspec.Struct, frozen=True, gc=False):
    """The caller has stopped speaking, at this millisecond of the session's audio."""

    item: str
    at_ms: int


class TurnTaken(msgspec.Struct, frozen=True, gc=False):
    """The caller's speech is now a turn; its words may come later."""

    item: str


class CallerWords(msgspec.Struct, frozen=True, gc=False):
    item: str
    text: str


class RunTool(msgspec.Struct, frozen=True, gc=False):
    call_id: str
    name: str
    arguments: str


class WentLive(msgspec.Struct, frozen=True, gc=False):
    """The handshake and the replay are over: the caller's audio may flow."""


class Useful(msgspec.Struct, frozen=True, gc=False):
    """The session has done something for the caller: failures before it are forgiven."""


class Trouble(msgspec.Struct, frozen=True, gc=False):
    """A failure is known while a reply is owed, and the session goes on: comfort may be due."""

    kind: FaultKind
    detail: str = ""


class ReplyOver(msgspec.Struct, frozen=True, gc=False):
    """The model has finished a reply, spoken or not; nothing of it is still to come."""


class Noticed(msgspec.Struct, frozen=True, gc=False):
    """A fault to be counted and nothing more."""

    kind: FaultKind
    detail: str = ""


class SessionFailed(msgspec.Struct, frozen=True, gc=False):
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
