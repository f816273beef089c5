"""How a session begins: its configuration, the history as heard, and who speaks first."""

from __future__ import annotations

import attrs

from callrt.protocol.models import events as ev

CONTINUE_NOTE = (
    "Your last reply was cut off by a technical fault. The caller has heard exactly the words of it that stand "
    "above and nothing more. Go on from there: do not repeat them, do not greet and do not apologise."
)


@attrs.frozen
class Opening:
    """``first`` is the one reply that is asked for when the session is live; ``owed`` without ``first`` means
    that audio which is about to be sent will bring the reply by itself."""

    configure: ev.Configure
    replay: tuple[ev.ModelCommand, ...] = ()
    first: ev.RequestReply | None = None
    owed: bool = False
    running: tuple[str, ...] = ()
    """Calls of tools in ``replay`` whose outputs will follow; the last of them brings the reply."""

    @property
    def last_item(self) -> str | None:
        """The id of the last replayed item: its echo ends the replay."""
        for command in reversed(self.replay):
            item = getattr(command, "item_id", None)
            if isinstance(item, str):
                return item
        return None


def greeting_request(instructions: str, greeting: str) -> ev.RequestReply:
    """The agent speaks first."""
    return say_exactly(f"{instructions}\n\nThe caller has just been connected.", greeting, purpose="greeting")


def say_exactly(instructions: str, text: str, *, purpose: str) -> ev.RequestReply:
    """These words and no others. A reply's instructions replace the session's: these repeat them."""
    quoted = text.replace('"', "'")
    return ev.RequestReply(
        instructions=f'{instructions}\n\nSay now to the caller, and say exactly: "{quoted}"',
        metadata={"purpose": purpose},
    )
