"""When Python looks for cyclic garbage: rarely in all there is, for that stops every call at once.

Looking through everything takes half a millisecond per live call: with Python's own thresholds, 55 ms at 100 calls,
after about every hundredth call that begins. But a call that has lived for more than a moment is found only so, and
waits until then with its 250 kB. So a full collection comes after some 250 calls: rare to hear, and bounded.
"""

from __future__ import annotations

import gc

THRESHOLDS = (5_000, 10, 5)
"""Objects made and not let go until a small collection; small ones until a middle one; middle ones until a full one."""


def collect_rarely() -> None:
    """For a process that is about to serve: what it has loaded so far will never be garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
