"""The header, the verdict and the lists under the tracks."""

from __future__ import annotations

from html import escape
from itertools import pairwise

from callrt.testing.timeline.story import Guarantee, Story
from callrt.testing.timeline.text import clock, number, span
from callrt.testing.timeline.tracks import EVENT_WORDS


def icon(name: str) -> str:
    return f'<svg class="icon" aria-hidden="true"><use href="#i-{name}"/></svg>'


def verdict(story: Story) -> tuple[str, str]:
    """A class and a sentence. One guarantee may have several figures: it is counted once."""
    tested = [g for g in story.guarantees if g.held is not None]
    names = list(dict.fromkeys(g.name for g in tested))
    broken = list(dict.fromkeys(g.name for g in tested if not g.held))
    if broken:
        return "broken", f"{', '.join(broken)} broken"
    if not names:
        return "open", "Nothing measured"
    figures = f", by {len(tested)} figures" if len(tested) > len(names) else ""
    return "held", f"{len(names)} guarantee{'s' if len(names) > 1 else ''} held{figures}"


def subtitle(story: Story) -> str:
    parts = [f"<code>{escape(story.call_sid)}</code>", escape(story.agent), escape(story.started_at)]
    return " <i>·</i> ".join(part for part in parts if part)


def tiles(story: Story) -> str:
    dead = [item.end - item.start for item in story.spans if item.kind == "dead_air"]
    restarts = sum(bar.state == "restarting" for bar in story.bars)
    barge_ins = sum(event.kind == "barge_in" for event in story.events)
    survived = story.faults_survived >= story.faults_injected
    facts = [
        ("Duration", clock(story.duration), "", ""),
        ("Outcome", story.outcome.replace("_", " "), "", ""),
        (
            "Faults survived",
            f"{story.faults_survived}/{story.faults_injected}" if story.faults_injected else "none injected",
            "",
            "" if not story.faults_injected else "good" if survived else "bad",
        ),
        ("Actor restarts", str(restarts), "", ""),
        ("Barge-ins", str(barge_ins), "", ""),
        (
            "Longest dead air",
            span(max(dead)) if dead else "none",
            f"{span(sum(dead))} in all" if len(dead) > 1 else "",
            "",
        ),
    ]
    return "".join(
        f'<div class="{mood}"><dt>{escape(name)}</dt><dd>{escape(value)}'
        f"{f'<small>{escape(more)}</small>' if more else ''}</dd></div>"
        for name, value, more, mood in facts
    )


def legend() -> str:
    items = (
        ("caller", "caller"),
        ("heard", "agent as heard"),
        ("comfort", "comfort line"),
        ("dead", "dead air"),
        ("away", "stream away"),
        ("restart", "restart"),
    )
    return "".join(f'<span class="key {name}"><i></i>{words}</span>' for name, words in items)


def conversation(story: Story) -> str:
    """Turns in the order of time, with the faults between them."""
    if not story.turns:
        return '<p class="empty">Nobody said a word.</p>'
    faults = [e for e in story.events if e.kind in ("fault", "barge_in", "recovered", "transfer")]
    lines: list[tuple[float, int, str]] = []
    for turn in story.turns:
        who = "Caller" if turn.role == "caller" else "Agent"
        cut = '<em class="cut">interrupted</em>' if turn.interrupted else ""
        lines.append(
            (
                turn.start,
                0,
                f'<li class="{turn.role}" data-from="{number(turn.start)}" data-to="{number(turn.end)}">'
                f'<button type="button" data-seek="{number(turn.start)}"><time>{clock(turn.start)}</time>'
                f"<b>{who}</b><span>{escape(turn.text)}{cut}</span></button></li>",
            )
        )
    for event in faults:
        lines.append(
            (
                event.at,
                1,
                f'<li class="aside {event.kind}"><button type="button" data-seek="{number(event.at)}">'
                f"<time>{clock(event.at)}</time>{icon(event.kind)}<span>{escape(event.title)}</span>"
                "</button></li>",
            )
        )
    return "<ol>" + "".join(text for _, _, text in sorted(lines, key=lambda line: line[:2])) + "</ol>"


def guarantees(story: Story) -> str:
    if not story.guarantees:
        return '<p class="empty">None was measured.</p>'
    return f'<ul class="guarantees">{"".join(_guarantee(item) for item in story.guarantees)}</ul>'


def _guarantee(item: Guarantee) -> str:
    state = {True: "held", False: "broken", None: "open"}[item.held]
    word = {True: "held", False: "broken", None: "not put to the test"}[item.held]
    limit = f"<small>{escape(item.limit)}</small>" if item.limit else ""
    figure = f"<data>{escape(item.figure)}</data>" if item.figure else ""
    return (
        f'<li class="{state}">{icon(state)}<b>{escape(item.name)}</b>'
        f'<span>{escape(item.title)}<i class="quiet"> {word}</i></span><div>{figure}{limit}</div></li>'
    )


def events(story: Story) -> str:
    if not story.events:
        return '<p class="empty">Nothing happened.</p>'
    ordered = sorted(story.events, key=lambda e: e.at)
    gaps = [0.0, *(b.at - a.at for a, b in pairwise(ordered))]
    rows = "".join(
        f'<li class="{event.kind}"><button type="button" data-seek="{number(event.at)}">'
        f'<time>{clock(event.at)}</time><i class="gap">+{span(gap)}</i>{icon(event.kind)}'
        f'<span><i class="quiet">{EVENT_WORDS[event.kind]}: </i>{escape(event.title)}'
        f"{f'<small>{escape(event.detail)}</small>' if event.detail else ''}</span></button></li>"
        for event, gap in zip(ordered, gaps, strict=True)
    )
    return f'<ol class="log">{rows}</ol>'
