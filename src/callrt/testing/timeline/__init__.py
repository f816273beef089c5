"""The timeline page: one call, seen and heard, in one HTML file."""

from __future__ import annotations

from callrt.testing.timeline.page import render
from callrt.testing.timeline.story import ACTORS, Bar, Event, Guarantee, Mark, Span, Story, Turn

__all__ = ["ACTORS", "Bar", "Event", "Guarantee", "Mark", "Span", "Story", "Turn", "render"]
