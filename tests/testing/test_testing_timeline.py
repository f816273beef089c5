"""The timeline page: stands alone, escapes everything, shows what it was given."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callrt.protocol.audio import mulaw_encode
from callrt.testing.timeline import (
    ACTORS,
    Bar,
    Event,
    Guarantee,
    Mark,
    Span,
    Story,
    Turn,
    render,
)
from callrt.testing.timeline.text import clock, span
from callrt.testing.timeline.tracks import scale
from callrt.testing.timeline.waveform import COLUMNS_MAX, columns, outline, peaks


def tone(seconds: float, level: float) -> bytes:
    t = np.arange(round(seconds * 8000)) / 8000
    return mulaw_encode(np.round(np.sin(2 * np.pi * 440 * t) * level * 32_000).astype(np.int16))


STORY = Story(
    call_sid="CA5b1f0e6cd2a84e0f9d3c7b6a5e4f3d2c",
    agent="front-desk",
    outcome="caller_hung_up",
    duration=12.0,
    started_at="2026-11-20T12:04:31Z",
    caller_audio=tone(2, 0.5),
    heard_audio=b"\xff" * 24_000 + tone(4, 1.0),
    turns=(
        Turn("caller", 0.0, 2.0, "Monday, please."),
        Turn("agent", 3.0, 7.0, "Monday is fr", interrupted=True),
    ),
    marks=(
        Mark("1:0:item:200", 2.9, 3.2),
        Mark("1:0:item:400", 3.1),
        Mark("1:0:item:600", 3.3, 7.0, flushed=True),
    ),
    events=(Event(5.0, "fault", "Model: reset", "in mid-reply"), Event(7.0, "barge_in", "Caller interrupts")),
    bars=(
        Bar("call", 0, 12),
        Bar("model", 0, 5.0, label="session 1"),
        Bar("model", 5.0, 5.6, "restarting", "reset"),
        Bar("recorder", 0, 12),
    ),
    spans=(Span(2.0, 3.0, "dead_air", limit=0.8), Span(5.0, 5.4, "comfort", "One moment please.")),
    guarantees=(
        Guarantee("G1", "The model fails", True, "212 ms", "≤ 300 ms"),
        Guarantee("G3", "The process dies", None),
        Guarantee("G4", "The caller interrupts", False, "31 ms", "≤ 20 ms"),
    ),
    faults_injected=2,
    faults_survived=1,
    footnote="seed 7",
)


class Page(html.parser.HTMLParser):
    """A strict look at a page: every tag closed in order, every attribute and text kept."""

    VOID = ("meta", "link", "input", "br")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]].append(data)
        else:
            self.texts.append(data)

    def with_class(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.tags if name in (attributes.get("class") or "").split()]

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.raw["script"][0])  # type: ignore[no-any-return]


def test_page_needs_nothing_from_outside() -> None:
    page = render(STORY)
    addresses = [a[name] or "" for _, a in Page(page).tags for name in ("src", "href") if name in a]
    assert addresses
    assert all(address.startswith(("#", "data:")) for address in addresses), addresses
    assert set(re.findall(r"url\(([^)]*)\)", page)) == {"#ink-caller", "#ink-agent"}
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert "default-src 'none'" in page


def test_policy_pins_exactly_the_script_of_the_page() -> None:
    page = render(STORY)
    (pinned,) = re.findall(r"script-src 'sha256-([^']+)'", page)
    script = Page(page).raw["script"][1]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() == pinned


def test_page_is_well_formed_and_shows_the_story() -> None:
    page = Page(render(STORY))
    for words in ("Monday, please.", "Monday is fr", "caller hung up", "G4 broken", "31 ms", "seed 7", "1/2"):
        assert words in page.text, words
    assert [len(page.with_class(name)) for name in ("turn", "mark", "flag", "bolt")] == [2, 3, 2, 2]
    assert len(page.with_class("cut")) == 2  # in the track and in the conversation
    assert len(page.with_class("over")) == 1
    assert [a["class"] for a in page.with_class("mark")] == ["mark played", "mark lost", "mark flushed"]
    assert len(page.with_class("restarting")) == 1


def test_things_lie_at_their_time() -> None:
    page = Page(render(STORY))
    (fault,) = [a for a in page.with_class("flag") if a["data-seek"] == "5"]
    assert fault["style"] == "--t:5;--row:0"
    assert [a["style"] for a in page.with_class("turn")] == ["--t:0;--d:2", "--t:3;--d:4"]
    assert page.data["stops"] == [0.0, 3.0, 5.0, 7.0]


def test_every_lane_is_shown_in_order_and_new_actors_follow() -> None:
    page = render(STORY)
    assert re.findall(r'name lane">(\w+)<', page) == [*ACTORS, "recorder"]


def test_sound_is_in_the_page_from_beginning_to_end() -> None:
    data = Page(render(STORY)).data
    left, right = base64.b64decode(data["left"]), base64.b64decode(data["right"])
    assert len(left) == len(right) == 96_000
    assert left == STORY.caller_audio + b"\xff" * 80_000
    assert right[: len(STORY.heard_audio)] == STORY.heard_audio


def test_details_are_for_hover_focus_and_screen_readers_alike() -> None:
    told = [a for _, a in Page(render(STORY)).tags if "data-tip" in a]
    assert len(told) >= 12
    assert all(a["data-tip"] == a["aria-label"] for a in told)


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ((), "Nothing measured"),
        ((None,), "Nothing measured"),
        ((True, None), "1 guarantee held"),
        ((True, True), "2 guarantees held"),
        ((True, False), "G2 broken"),
    ],
)
def test_verdict_says_what_was_measured_and_no_more(held: tuple[bool | None, ...], says: str) -> None:
    lines = tuple(Guarantee(f"G{n + 1}", "", value) for n, value in enumerate(held))
    assert says in Page(render(attrs.evolve(STORY, guarantees=lines))).text


def test_verdict_counts_a_guarantee_once_however_many_figures_it_has() -> None:
    lines = (Guarantee("G1", "", True), Guarantee("G1", "", True), Guarantee("G2", "", True))
    assert "2 guarantees held, by 3 figures" in Page(render(attrs.evolve(STORY, guarantees=lines))).text


HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`{{script}}{{data}}&lt;\u2028\x00<!--"
)


def poisoned(text: str) -> Story:
    return attrs.evolve(
        STORY,
        call_sid=text,
        agent=text,
        outcome=text,
        title=text,
        started_at=text,
        footnote=text,
        turns=tuple(attrs.evolve(turn, text=text) for turn in STORY.turns),
        marks=tuple(attrs.evolve(mark, name=text) for mark in STORY.marks),
        events=tuple(attrs.evolve(event, title=text, detail=text) for event in STORY.events),
        bars=tuple(attrs.evolve(bar, actor=text, label=text) for bar in STORY.bars),
        spans=tuple(attrs.evolve(item, label=text) for item in STORY.spans),
        guarantees=tuple(
            attrs.evolve(g, name=text, title=text, figure=text, limit=text) for g in STORY.guarantees
        ),
    )


def shape(page: str) -> list[tuple[str, list[str]]]:
    return [(tag, sorted(attributes)) for tag, attributes in Page(page).tags]


def test_hostile_text_stays_text() -> None:
    page = render(poisoned(HOSTILE))
    assert shape(page) == shape(render(poisoned("harmless")))
    parsed = Page(page)
    assert len(parsed.raw["script"]) == 2
    assert parsed.text.count("onerror=alert(2)") > 10  # shown, not run


@settings(max_examples=40, deadline=None)
@given(
    st.text(
        alphabet=st.one_of(st.sampled_from("<>&\"'{}/!-=` \n"), st.characters(codec="utf-8")), max_size=30
    )
)
def test_no_text_changes_the_structure_of_the_page(text: str) -> None:
    # An empty text has no element of its own; any other has.
    assert shape(render(poisoned("x" + text))) == shape(render(poisoned("x")))


def test_page_of_an_empty_call_is_a_page() -> None:
    page = Page(render(Story("CA0", "a", "failed", 0.0)))
    assert "Nobody said a word." in page.text
    assert "Nothing happened." in page.text


def test_page_of_a_long_call_stays_bounded() -> None:
    story = Story("CA0", "a", "completed", 7200.0, marks=tuple(Mark("m", t / 10) for t in range(10_000)))
    page = render(story)
    assert len(page) < 2_000_000
    assert Page(page).data["left"] == ""


# -- waveforms and words ----------------------------------------------------------------------------------


def test_peaks_follow_the_sound() -> None:
    heights = peaks(b"\xff" * 8000 + tone(1, 1.0) + b"\x7f" * 8000, 3.0)
    assert heights[:100].max() == 0
    assert heights[100:200].min() > 0.9
    assert heights[200:].max() == 0
    assert peaks(b"", 1.0).max() == 0
    assert peaks(b"\x00", 1.0).max() == 1.0


@given(st.binary(max_size=4000), st.floats(0, 3))
def test_outline_stays_in_its_box(audio: bytes, duration: float) -> None:
    numbers = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", outline(audio, duration))]
    assert all(0 <= x <= columns(duration) for x in numbers[0::2])
    assert all(2 <= y <= 198 for y in numbers[1::2])


def test_outline_of_silence_is_short_and_of_anything_bounded() -> None:
    assert len(outline(b"\xff" * 80_000, 10)) < 100
    noise = np.random.default_rng(1).integers(0, 256, 8000 * 600, dtype=np.uint8).tobytes()
    assert len(outline(noise, 600)) < 30 * COLUMNS_MAX


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.0"), (62.34, "1:02.3"), (59.96, "1:00.0"), (3725.5, "1:02:05.5"), (-1, "0:00.0")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.2804, "280 ms"), (1.26, "1.3 s"), (0.9999, "1.0 s")])
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


@given(st.floats(0, 86_400))
def test_ruler_is_never_crowded(duration: float) -> None:
    small, middle, large = scale(duration)
    assert middle % small == 0
    assert large % middle == 0
    assert duration / small <= 1440
