"""docs/tools.md does what it says: its code blocks run, in order, as one program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from callrt.actors.tool_runner import THREADS_PER_TOOL
from callrt.actors.tools import FILLER_AFTER_SECONDS
from callrt.agents.declare import TIMEOUT_MAX, Tool
from callrt.protocol.tools import OUTPUT_BYTES_MAX, CallFacts, Limits

PAGE = Path(__file__).parents[2] / "docs" / "tools.md"


def test_code_blocks_of_the_page_run_in_order() -> None:
    names: dict[str, Any] = {"__name__": "docs_tools"}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) >= 8
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    book = names["book_appointment"]
    assert isinstance(book, Tool)
    arguments = book.parse('{"day": "monday", "time": "10:30"}')
    facts = CallFacts("CA1", "+15550100001", "front-desk")
    assert book.invoke(arguments, facts, "key") == names["find_booking"]("key") == "booked monday 10:30"


def test_numbers_on_the_page_are_those_of_the_code() -> None:
    limits = Limits()
    assert (limits.same_per_turn, limits.calls_per_turn, limits.running) == (5, 20, 16)
    assert (OUTPUT_BYTES_MAX, THREADS_PER_TOOL, TIMEOUT_MAX, FILLER_AFTER_SECONDS) == (16_000, 16, 300, 1)


def test_every_option_of_the_decorator_is_on_the_page() -> None:
    options = [name for name in Tool.__init__.__annotations__ if name not in ("function", "return")]
    assert options
    for option in options:
        assert f"| `{option}` |" in PAGE.read_text(), option
