"""``render(story)``: one HTML page that stands alone: no network, no library, opens from a file."""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape
from importlib.resources import files

import msgspec

from callrt.testing.timeline import panels, tracks
from callrt.testing.timeline.story import Story
from callrt.testing.timeline.text import clock
from callrt.testing.timeline.waveform import SAMPLES_PER_SECOND

SILENCE = b"\xff"
AUDIO_SECONDS_MAX = 1_800
"""Half an hour, the longest call by default, is 38 MB of page; longer ones keep the outline, not the sound."""


def render(story: Story) -> str:
    """The page, UTF-8 text. All texts of the story are escaped; the script is pinned by its hash."""
    script = _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    verdict_class, verdict_text = panels.verdict(story)
    values = {
        "title": escape(f"{story.title} · {story.call_sid}"),
        "heading": escape(story.title),
        "subtitle": panels.subtitle(story),
        "verdict": f'<p class="verdict {verdict_class}">{panels.icon(verdict_class)}{escape(verdict_text)}</p>',
        "style": _resource("page.css"),
        "script": script,
        "script_hash": f"sha256-{digest}",
        "symbols": _resource("symbols.svg"),
        "duration": f"{max(story.duration, 0.001):.3f}",
        "length": clock(story.duration),
        "file_name": escape(re.sub(r"[^A-Za-z0-9_-]", "", story.call_sid)[:64] or "call") + ".wav",
        "tiles": panels.tiles(story),
        "names": tracks.names(story),
        "tracks": tracks.tracks(story),
        "legend": panels.legend(),
        "conversation": panels.conversation(story),
        "guarantees": panels.guarantees(story),
        "events": panels.events(story),
        "footnote": escape(story.footnote),
        "data": _data(story),
    }
    # One pass, so that a text of the story that looks like a placeholder stays what it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], _resource("page.html"))


def _data(story: Story) -> str:
    """What the script needs: the two recordings and the instants worth jumping to."""
    duration = min(story.duration, AUDIO_SECONDS_MAX) if story.duration <= AUDIO_SECONDS_MAX else 0
    length = round(duration * SAMPLES_PER_SECOND)
    stops = sorted({round(t, 3) for t in (*(e.at for e in story.events), *(t.start for t in story.turns))})
    data = {
        "duration": round(story.duration, 3),
        "left": base64.b64encode(story.caller_audio[:length].ljust(length, SILENCE)).decode(),
        "right": base64.b64encode(story.heard_audio[:length].ljust(length, SILENCE)).decode(),
        "stops": stops,
        "scale": tracks.scale(story.duration),
    }
    # Nothing within <script> may look like a tag, whatever the data.
    return msgspec.json.encode(data).decode().replace("<", "\\u003c")


def _resource(name: str) -> str:
    return (files("callrt.testing.timeline") / name).read_text(encoding="utf-8")
