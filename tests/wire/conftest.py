"""Every law of a transport holds for both of them."""

from __future__ import annotations

import pytest
import wire_helpers


@pytest.fixture(scope="module", params=["reference", "direct"], autouse=True)
def transport_kind(request):
    """Which transport the helpers open, and over which streams: memory, or a pair of sockets."""
    wire_helpers.kind = request.param
    yield request.param
    wire_helpers.kind = "reference"
