"""The agent's two built-in tools: end the call, and hand the caller to a human."""

from __future__ import annotations

import trio

from callrt.actors.line import Line, Wish
from callrt.protocol.conduct import Conduct, End, Transfer
from callrt.protocol.models.events import ToolSpec
from callrt.protocol.tools import END_CALL, TRANSFER_TO_HUMAN, error_output

ENDING = '{"ok": true, "note": "The call ends now. Say nothing more."}'
CONNECTING = '{"ok": true, "note": "The caller is being connected. Say nothing more."}'


class Builtins:
    """Their effect waits until what the agent is saying has been heard; a caller who speaks first prevents it."""

    def __init__(self, line: Line, conduct: Conduct) -> None:
        self._line = line
        self._conduct = conduct

    def specs(self) -> list[ToolSpec]:
        out = [END_CALL]
        if self._conduct.can_transfer:
            out.append(TRANSFER_TO_HUMAN)
        return out

    def use(self, name: str, reason: str) -> str:
        """Carry out, soon; returns the tool's output."""
        if name == TRANSFER_TO_HUMAN.name:
            if not self._conduct.can_transfer:
                return error_output("There is nobody to transfer the call to.")
            self._line.notify(Wish(Transfer("asked", note=reason)))
            return CONNECTING
        self._line.notify(Wish(End("completed")))
        return ENDING

    def on_output(self, call_id: str, output: str) -> None:
        """A tool's output, to the model if its session is there; else the replay has it."""
        link = self._line.link
        if link is not None:
            # A call that is about to end needs no further reply.
            link.tool_output(call_id, output, reply=output not in (ENDING, CONNECTING))

    def on_filler(self, text: str) -> None:
        """A tool takes long: the agent says so in its own voice, if its session is there and it is not speaking."""
        link = self._line.link
        if link is not None and self._line.voice.silent:
            link.filler(text)

    def taken_back(self) -> None:
        """The caller spoke; a wish that was not carried out is void."""
        self._line.active_at = trio.current_time()
        if self._conduct.take_back():
            self._line.report("info", "the caller went on speaking; the end of the call was taken back")
