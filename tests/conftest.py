"""For all tests."""

from __future__ import annotations

import gc
import os

from hypothesis import settings

# A sample in every run; HYPOTHESIS_PROFILE=long for a search.
settings.register_profile("sample", max_examples=40, deadline=None)
settings.register_profile("long", max_examples=2_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "sample"))


def pytest_collection_finish() -> None:
    """What collecting has built stays for good: tests that collect garbage need not look at it each time."""
    gc.collect()
    gc.freeze()
