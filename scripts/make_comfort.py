"""Make the bundled comfort lines from their texts: ``python scripts/make_comfort.py [FOLDER]``.

Writes ``<language>/<line>.ulaw`` (mu-law, 8 kHz, whole 20 ms frames) below FOLDER, by default the package's
own data. Needs the ``demo`` extra for espeak-ng. The output is deterministic.
"""

from __future__ import annotations

import sys
from pathlib import Path

from callrt.comfort.lines import LINE_NAMES, LINES, voice_of
from callrt.testing.speech import synthesize

DATA = Path(__file__).resolve().parent.parent / "src" / "callrt" / "comfort" / "data"

WORDS_PER_MINUTE = 165


def make(folder: Path) -> int:
    """Write every line; returns the bytes written."""
    total = 0
    for language, texts in LINES.items():
        target = folder / language
        target.mkdir(parents=True, exist_ok=True)
        for line in LINE_NAMES:
            audio = synthesize(texts[line], voice_of(language), WORDS_PER_MINUTE)
            (target / f"{line}.ulaw").write_bytes(audio)
            total += len(audio)
            print(f"{language}/{line}: {len(audio) / 8000:.2f} s")
    return total


if __name__ == "__main__":
    destination = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    print(f"{make(destination)} bytes below {destination.name}/")
