"""Every block of code in docs/supervision.md runs and prints what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import callrt.supervision

PAGE = Path(__file__).resolve().parents[2] / "docs" / "supervision.md"
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
BLOCKS = [(match[1], match[2] or "") for match in BLOCK.finditer(PAGE.read_text())]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_block_of_the_page_runs_as_it_says(number: int) -> None:
    code, expected = BLOCKS[number]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected
    assert done.stderr == ""


def test_page_begins_with_a_short_example_that_crashes_and_recovers() -> None:
    code, expected = BLOCKS[0]
    assert expected.split() == ["attempt", "1", "attempt", "2", "attempt", "3"]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10


def test_every_public_name_has_a_docstring() -> None:
    missing = [
        name
        for name in callrt.supervision.__all__
        if isinstance(getattr(callrt.supervision, name), type)
        and not getattr(callrt.supervision, name).__doc__
    ]
    assert missing == []
