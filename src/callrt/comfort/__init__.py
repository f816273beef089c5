"""Comfort audio: what the caller hears from the service itself when a model cannot speak."""

from __future__ import annotations

from callrt.comfort.library import ComfortError, ComfortLibrary
from callrt.comfort.lines import LINE_NAMES, LINES, nearest_language

__all__ = ["LINES", "LINE_NAMES", "ComfortError", "ComfortLibrary", "nearest_language"]
