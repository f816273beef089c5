"""What can go wrong between a tool's author and callrt."""

from __future__ import annotations

from callrt.protocol.tools import ToolFailed

__all__ = ["ToolError", "ToolFailed"]


class ToolError(Exception):
    """The author's mistake, found when a tool is declared or loaded: one sentence that says what to write."""
