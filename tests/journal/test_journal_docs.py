"""docs/durability.md and docs/deploy.md name real tests; every record is in its class."""

from __future__ import annotations

import re
from pathlib import Path

from callrt.protocol.records import AnyRecord

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "durability.md").read_text()


def test_pages_name_tests_that_exist() -> None:
    existing = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    for page in (PAGE, (ROOT / "docs" / "deploy.md").read_text()):
        named = set(re.findall(r"`(test_\w+)`", page))
        assert named
        assert named <= existing, sorted(named - existing)


def test_durability_page_has_every_record_in_its_class() -> None:
    rows = {row.split("`")[1]: row for row in PAGE.splitlines() if re.match(r"\| `[A-Z]\w+` \|", row)}
    assert list(rows) == [kind.__name__ for kind in AnyRecord.__args__]
    for kind in AnyRecord.__args__:
        row = rows[kind.__name__]
        assert row.split("|")[2].strip().startswith("must-commit" if kind.must_commit else "write-behind")
        assert "`test_" in row
