"""What a call's memory is made of: every file of ours belongs to a part."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from memory import PARTS, part_of

import callrt


def test_every_file_belongs_to_a_part() -> None:
    files = sorted(Path(callrt.__file__).parent.rglob("*.py"))
    parts = {part_of(str(path)) for path in files}
    assert parts == {part for _, part in PARTS if not part.startswith("Trio")}


@pytest.mark.parametrize(
    "filename", [trio.__file__, "<attrs generated methods trio._sync.Event>", "/site-packages/trio/_sync.py"]
)
def test_trio_is_a_part_of_its_own(filename: str) -> None:
    assert part_of(filename).startswith("Trio")
