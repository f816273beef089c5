"""The service's own lines, encoded and in memory: saying one needs no model, no network and no codec.

The bundled files were made from :mod:`callrt.comfort.lines`. An operator's recording replaces a line:
``<folder>/<language>/<line>.wav`` or, for every language, ``<folder>/<line>.wav``. A changed
``comfort_text`` changes nothing without a recording that says it: the bundled one still plays, because making
another would need a synthesiser.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path

import attrs

from callrt.comfort import pcm
from callrt.comfort.lines import LINE_NAMES, LINES, nearest_language

ComfortError = pcm.ClipError


@attrs.frozen
class ComfortLibrary(Mapping[str, bytes]):
    """Line name to mu-law at 8 kHz in whole 20 ms frames. Each of ``LINE_NAMES`` is there and audible."""

    language: str
    """The bundled language that was chosen."""
    lines: Mapping[str, bytes] = attrs.field(repr=False)
    replaced: tuple[str, ...] = ()
    """Lines that an operator's recording replaces."""

    @classmethod
    def load(cls, folder: Path | None = None, language: str = "en") -> ComfortLibrary:
        """Read every line once, at start-up.

        :param folder: the operator's recordings; None for the bundled lines alone.
        :param language: a tag such as ``de`` or ``de-AT``; English stands in for a language that is not
            bundled.
        :raises ComfortError: a folder or recording that cannot be used, in one sentence.
        """
        if folder is not None and not folder.is_dir():
            raise ComfortError(
                f"{folder} is not a folder; put one_moment.wav and its like there or remove the setting"
            )
        chosen = nearest_language(language)
        lines: dict[str, bytes] = {}
        replaced: list[str] = []
        for line in LINE_NAMES:
            recording = find_recording(folder, language, line)
            if recording is None:
                lines[line] = bundled(chosen, line)
            else:
                lines[line] = encode_recording(recording)
                replaced.append(line)
        return cls(language=chosen, lines=lines, replaced=tuple(replaced))

    def text(self, line: str) -> str:
        """The words of the bundled line."""
        return LINES[self.language][line]

    def duration_ms(self, line: str) -> int:
        return len(self.lines[line]) // 8

    def __getitem__(self, line: str) -> bytes:
        return self.lines[line]

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)


def bundled(language: str, line: str) -> bytes:
    return resources.files("callrt.comfort").joinpath("data", language, f"{line}.ulaw").read_bytes()


def encode_recording(path: Path) -> bytes:
    """An operator's WAV as the carrier plays it; its level is left as recorded.

    :raises ComfortError: not a PCM WAV, empty, too long, or all silence.
    """
    clip = pcm.read_wav(path)
    if pcm.loudness_dbfs(clip) == float("-inf"):
        raise ComfortError(f"{path} is silent; record the line again or remove the file")
    return pcm.to_mulaw(pcm.to_int16(clip))


def find_recording(folder: Path | None, language: str, line: str) -> Path | None:
    """The operator's own, if there is one."""
    if folder is None:
        return None
    tags = dict.fromkeys((language, language.replace("_", "-").split("-")[0].lower()))
    for candidate in (*(folder / tag / f"{line}.wav" for tag in tags), folder / f"{line}.wav"):
        if candidate.is_file():
            return candidate
    return None
