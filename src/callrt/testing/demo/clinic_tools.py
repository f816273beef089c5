"""The clinic's tools, as its owner would write them. Each run leaves one line in ``effects.txt``."""

import os
from pathlib import Path

import trio

from callrt import tool

EFFECTS = Path(__file__).with_name("effects.txt")


@tool(side_effects=True)
def book_appointment(day: str, hour: int) -> str:
    """Book an appointment. Do it once the caller has named a day and an hour."""
    _note(f"booked {day} {hour}")
    return f"booked for {day} at {hour}"


@tool(side_effects=True, timeout=1)
async def text_address() -> str:
    """Send the clinic's address to the caller as a text message."""
    _note("text message handed over")
    if os.environ.get("DEMO_TEXT_MESSAGES") == "hang":
        await trio.sleep_forever()
    return "sent"


def _note(effect: str) -> None:
    with EFFECTS.open("a", encoding="utf-8") as file:
        file.write(effect + "\n")
