"""For all tests."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """What collecting has built stays for good: tests that collect garbage need not look at it each time."""
    gc.collect()
    gc.freeze()
