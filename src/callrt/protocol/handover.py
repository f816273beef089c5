"""What the human who takes a call over gets: a short summary to hear, and the whole transcript to read."""

from __future__ import annotations

from collections.abc import Sequence

from callrt.protocol.history import HistoryItem, SaidByAgent, SaidByCaller, UsedTool, line_of, shorten

SMS_CHARS_MAX = 1600
"""The longest message a carrier takes."""

REASONS = {
    "model_unavailable": "The assistant cannot go on.",
    "asked": "The caller is to speak to a person.",
}
"""Other reasons are spoken as they are written."""


def summary(
    history: Sequence[HistoryItem],
    caller: str,
    agent_name: str,
    reason: str,
    max_chars: int = 600,
) -> str:
    """Who is calling and why, to be spoken, in the caller's first and last words; at most ``max_chars``."""
    parts = [f"Call from {caller or 'an unknown number'}, until now with {agent_name}."]
    if reason:
        parts.append(REASONS.get(reason) or f"Reason: {reason}.")
    done = [entry.name for entry in history if isinstance(entry, UsedTool) and entry.status == "ok"]
    if done:
        names = ", ".join(name.replace("_", " ") for name in dict.fromkeys(done))
        parts.append(f"Done so far: {shorten(names, max_chars // 6)}.")
    said = [entry.text for entry in history if isinstance(entry, SaidByCaller) and entry.text.strip()]
    room = max_chars - len(" ".join(parts))
    if not said:
        parts.append("Nothing the caller said was understood.")
    elif len(said) == 1:
        parts.append(f"The caller said: {shorten(said[0], max(room - 20, 0))}")
    else:
        each = max((room - 50) // 2, 0)
        parts.append(f"The caller first said: {shorten(said[0], each)}")
        parts.append(f"And last: {shorten(said[-1], each)}")
    return shorten(" ".join(parts), max_chars)


def transcript_text(history: Sequence[HistoryItem], max_chars: int = SMS_CHARS_MAX) -> str:
    """What was said and heard, a line each, for reading; the oldest gives way to ``max_chars``."""
    spoken = [entry for entry in history if isinstance(entry, SaidByCaller | SaidByAgent)]
    lines = [line for entry in spoken if (line := line_of(entry, max_chars))]
    text = "\n".join(lines)
    if len(text) <= max_chars:
        return text
    kept: list[str] = []
    room = max_chars - 1
    for line in reversed(lines):
        if len(line) + 1 > room:
            break
        kept.insert(0, line)
        room -= len(line) + 1
    return "\n".join(("…", *kept)) if kept else "…" + text[len(text) - max_chars + 1 :]
