"""Messages between stage and parties arrive whole and in order, however the pipe tears them."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from callrt.testing.chaos.messages import Begin, Blown, Inbox, Strike, packed
from callrt.testing.sim.case import Pause

MESSAGES = (Begin("http://127.0.0.1:1", {3: 4}), Strike(7, "model"), Blown(1.5, Pause(1.0, 2.0), 3))


class Torn(trio.abc.ReceiveStream):
    """Gives its bytes in pieces of these sizes, then the rest, then the end."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data = data
        self._sizes = sizes

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        size = self._sizes.pop(0) if self._sizes else len(self._data)
        piece, self._data = self._data[:size], self._data[size:]
        return piece

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=30))
def test_messages_arrive_whole_however_they_are_torn(sizes: list[int]) -> None:
    async def read() -> None:
        inbox = Inbox(Torn(b"".join(packed(message) for message in MESSAGES), list(sizes)))
        assert [await inbox.next() for _ in MESSAGES] == list(MESSAGES)
        with pytest.raises(EOFError):
            await inbox.next()

    trio.run(read)


async def test_a_message_cut_off_by_the_end_is_no_message() -> None:
    with pytest.raises(EOFError):
        await Inbox(Torn(packed(MESSAGES[0])[:-1], [])).next()
