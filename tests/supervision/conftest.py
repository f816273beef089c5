"""For the tests of the supervision."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def _quick_collections() -> None:
    """Many laws here collect garbage to see that something is gone: they need not look at what other modules left."""
    gc.freeze()
