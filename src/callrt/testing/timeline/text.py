"""Small words and numbers of the page."""

from __future__ import annotations

from html import escape


def clock(seconds: float) -> str:
    """``1:02.3``; hours only when there are any."""
    tenths = round(max(0.0, seconds) * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"


def span(seconds: float) -> str:
    """``280 ms`` below a second, else ``1.3 s``."""
    return f"{round(seconds * 1000)} ms" if abs(seconds) < 0.9995 else f"{seconds:.1f} s"


def attribute(text: str) -> str:
    return escape(text, quote=True)


def number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") or "0"


def tip(*lines: str) -> str:
    """What the page shows on hover and on focus, and a screen reader says."""
    text = "\n".join(line for line in lines if line)
    return f'data-tip="{attribute(text)}" aria-label="{attribute(text)}"'
