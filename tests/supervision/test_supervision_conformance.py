"""The conformance table is complete, and its page is current."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_row_has_a_test_under_enough_seeds_and_the_page_is_current() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "conformance.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
