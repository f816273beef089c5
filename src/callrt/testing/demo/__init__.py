"""``callrt demo``: one whole phone call, broken in mid-call and measured from outside."""

from __future__ import annotations

from callrt.testing.demo.plot import BREAKS, Break
from callrt.testing.demo.stage import Performance, perform

__all__ = ["BREAKS", "Break", "Performance", "perform"]
