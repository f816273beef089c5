"""When Python looks for cyclic garbage: rarely in all there is, for that stops every call at once.

Looking through everything takes half a millisecond per live call: with Python's own thresholds, 55 ms at 100
calls, after about every hundredth call that begins. What a call leaves behind dies young and is found by the small
collections, so nothing is gained by it. Here a full one comes after about a thousand calls.
"""

from __future__ import annotations

import gc

THRESHOLDS = (10_000, 20, 20)
"""Objects made and not let go until a small collection; small ones until a middle one; middle ones until a full one."""


def collect_rarely() -> None:
    """For a process that is about to serve: what it has loaded so far will never be garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
