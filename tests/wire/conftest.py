"""Every law of a transport holds for both of them."""

from __future__ import annotations

import pytest
import wire_helpers

from callrt.wire import direct_hub


@pytest.fixture(scope="module", params=["reference", "direct"], autouse=True)
def transport_kind(request):
    """Which transport the helpers open, and over which streams: memory, or a pair of sockets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire_helpers, "kind", request.param)
        # The hub's rests take virtual time, of which these tests count every millisecond.
        patch.setattr(direct_hub, "PAUSE_SECONDS_MAX", 0.0)
        yield request.param
