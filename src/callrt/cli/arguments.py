"""What several verbs take from the command line, checked. argparse makes exit status 2 and one sentence of each."""

from __future__ import annotations

import argparse
from collections.abc import Callable

DIGITS_MAX = 18
"""More than any number here has, and few enough for SQLite's integers."""


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from ``low`` to ``high``, as an argument's ``type``."""

    def number(text: str) -> int:
        if text.isdecimal() and len(text) <= DIGITS_MAX and low <= int(text) <= high:
            return int(text)
        raise argparse.ArgumentTypeError(f"must be a number from {low} to {high}")

    return number


port = whole(0, 65535)
"""0: any free one."""
