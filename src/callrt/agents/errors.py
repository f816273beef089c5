"""What can go wrong between a tool's author and callrt."""

from __future__ import annotations


class ToolError(Exception):
    """The author's mistake, found when a tool is declared or loaded: one sentence that says what to write."""


class ToolFailed(Exception):
    """Raise it in a tool: the message goes to the model, which may say it to the caller.

    Any other exception reaches the model only as its type's name: its text may hold secrets.
    """
