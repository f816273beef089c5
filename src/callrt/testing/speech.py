"""Voices for the emulators: real synthesised speech, and a stand-in of beeps for tests.

espeak-ng comes as a shared library with the ``demo`` extra. Its sound depends on everything it has said
before, so the library is loaded afresh for each text (about 5 ms) and the random seed is fixed: the same
text gives the same bytes, in any order. It holds global state, hence the one lock.
"""

from __future__ import annotations

import ctypes
import functools
import threading
import zlib
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from callrt.comfort import pcm
from callrt.protocol.audio import mulaw_decode

VOICE = "en-us"
WORDS_PER_MINUTE = 170
PITCH = 50

_RETRIEVE_SYNCHRONOUSLY = 2
_NO_EXIT_ON_ERROR = 0x8000
_UTF8 = 1
_RATE_PARAMETER, _PITCH_PARAMETER = 1, 3
_SEED = 1

_lock = threading.Lock()

_WORD_EVENT = 1


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),  # 0 ends a list
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # of the word's first character, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class SpeechUnavailable(Exception):
    """There is no synthesiser, or it does not know the voice. One sentence."""


@functools.lru_cache(maxsize=512)
def synthesize(text: str, voice: str = VOICE, rate: int = WORDS_PER_MINUTE, pitch: int = PITCH) -> bytes:
    """``text`` spoken: mu-law at 8 kHz in whole 20 ms frames, about -20 dBFS, without silence around it.

    Blocks for some milliseconds on a new text; cached, deterministic, callable from any thread.

    :param voice: an espeak-ng voice, e.g. ``en-us``, ``de``, ``de+f3``.
    :param rate: words per minute.
    :param pitch: 0 to 99.
    :raises SpeechUnavailable: espeakng-loader is not installed, or the voice is unknown.
    """
    return synthesize_timed(text, voice, rate, pitch)[0]


@functools.lru_cache(maxsize=512)
def synthesize_timed(
    text: str, voice: str = VOICE, rate: int = WORDS_PER_MINUTE, pitch: int = PITCH
) -> tuple[bytes, tuple[int, ...]]:
    """As :func:`synthesize`, and for each word of ``text.split()`` where it ends, in milliseconds.

    A word lasts until the next one begins, so its pause is its own; the last one ends with the clip.
    """
    raw, sample_rate, starts = _speak(text, voice, rate, pitch)
    whole = pcm.resample(raw.astype(np.float64) / 32768, sample_rate, pcm.RATE)
    clip = pcm.trim(whole)
    audio = pcm.to_mulaw(pcm.to_int16(pcm.level(clip)))
    # A trimmed clip is a view of the whole: its address says how much went in front of it.
    cut_ms = (clip.ctypes.data - whole.ctypes.data) // whole.itemsize * 1000 // pcm.RATE if len(clip) else 0
    return audio, _word_ends(text, starts, cut_ms, len(audio) * 1000 // pcm.RATE)


def _word_ends(text: str, starts: list[tuple[int, int]], cut_ms: int, length_ms: int) -> tuple[int, ...]:
    """``starts``: (index of a character, milliseconds) of what the synthesiser takes for words. Where it saw none
    in one of ours (a dash, a number read with its neighbour), time is shared by length."""
    spans: list[tuple[int, int]] = []
    at = 0
    for word in text.split():
        at = text.index(word, at)
        spans.append((at, at + len(word)))
        at += len(word)
    if not spans:
        return ()
    known = {0: 0, len(spans): length_ms}
    for number, (first, end) in enumerate(spans[1:], 1):
        inside = [ms for position, ms in starts if first <= position < end]
        if inside:
            known[number] = min(max(inside[0] - cut_ms, 0), length_ms)
    edges = [0]
    anchors = sorted(known)
    for left, right in pairwise(anchors):
        sizes = [spans[number][1] - spans[number][0] for number in range(left, right)]
        begin, finish = max(known[left], edges[-1]), max(known[right], edges[-1])
        for number in range(1, right - left + 1):
            edges.append(begin + (finish - begin) * sum(sizes[:number]) // sum(sizes))
    return tuple(edges[1:])


def synthesize_pcm(
    text: str, voice: str = VOICE, rate: int = WORDS_PER_MINUTE, pitch: int = PITCH
) -> NDArray[np.int16]:
    """As :func:`synthesize`, decoded to 16-bit samples."""
    return mulaw_decode(synthesize(text, voice, rate, pitch))


@functools.lru_cache(maxsize=512)
def beeps(text: str, seed: int = 0) -> bytes:
    """A stand-in for speech that needs no synthesiser: a buzz per word, 60 ms per character, 60 ms between
    words.

    mu-law at 8 kHz in whole frames. No two 20 ms frames are alike, within a text and between texts, so that
    a frame that was heard names its place. Integer arithmetic after one rounded sine table: the same bytes
    on any machine.
    """
    random = _stream(text, seed)
    parts: list[NDArray[np.int64]] = []
    for word in text.split():
        parts += [_buzz(random, 3 * len(word)), _hush(random, 3)]
    if not parts:
        return b""
    return pcm.to_mulaw(np.concatenate(parts[:-1]).astype(np.int16))


@functools.lru_cache(maxsize=512)
def sentences(text: str, seed: int = 0) -> tuple[bytes, tuple[int, ...]]:
    """As :func:`beeps`, with the rhythm of speech: the last word of a clause is drawn out, and a pause follows. With
    it, for each word, where it ends in milliseconds, its pause included."""
    random = _stream(text, seed)
    parts: list[NDArray[np.int64]] = []
    for word in text.split():
        letters = sum(map(str.isalnum, word))
        drawn_out = 6 if pause_frames(word) > 3 else 0
        parts += [_buzz(random, 3 * letters + drawn_out), _hush(random, pause_frames(word))]
    if not parts:
        return b"", ()
    frames = [len(voice) + len(rest) for voice, rest in zip(parts[::2], parts[1::2], strict=True)]
    frames[-1] -= len(parts[-1])
    ends = tuple(int(end) * 1000 // pcm.RATE for end in np.cumsum(frames))
    return pcm.to_mulaw(np.concatenate(parts[:-1]).astype(np.int16)), ends


def pause_frames(word: str) -> int:
    """20 ms frames of silence behind a word of :func:`sentences`."""
    return 11 if word[-1:] in ",.;:!?" else 3


def _stream(text: str, seed: int) -> np.random.RandomState:
    # A stream that numpy keeps frozen.
    return np.random.RandomState(zlib.crc32(f"{seed}:{text}".encode()))


def _buzz(random: np.random.RandomState, frames: int) -> NDArray[np.int64]:
    length = frames * pcm.FRAME
    step = 110 + int(random.randint(0, 110)) + np.cumsum(random.randint(0, 2, length)) * 40 // pcm.RATE
    phase = np.cumsum(step)
    tone: NDArray[np.int64] = sum(_SINE[(phase * n) % pcm.RATE] // n for n in (1, 2, 3, 5))
    buzz: NDArray[np.int64] = tone + random.randint(-400, 401, length)
    return buzz


def _hush(random: np.random.RandomState, frames: int) -> NDArray[np.int64]:
    return random.randint(-90, 91, frames * pcm.FRAME).astype(np.int64)


_SINE = np.round(np.sin(np.arange(pcm.RATE) * (2 * np.pi / pcm.RATE)) * 6000).astype(np.int64)


def _speak(
    text: str, voice: str, rate: int, pitch: int
) -> tuple[NDArray[np.int16], int, list[tuple[int, int]]]:
    try:
        import espeakng_loader
    except ImportError as error:
        raise SpeechUnavailable('Speech needs espeak-ng: pip install "callrt[demo]"') from error
    parts: list[bytes] = []
    starts: list[tuple[int, int]] = []

    def collect(samples: Any, count: int, events: Any) -> int:
        number = 0
        while events[number].type:
            if events[number].type == _WORD_EVENT:
                starts.append((events[number].text_position - 1, events[number].audio_position))
            number += 1
        if samples and count > 0:
            parts.append(ctypes.string_at(samples, count * 2))
        return 0

    callback = _Callback(collect)
    with _lock:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        try:
            data = str(espeakng_loader.get_data_path()).encode()
            sample_rate = int(library.espeak_Initialize(_RETRIEVE_SYNCHRONOUSLY, 0, data, _NO_EXIT_ON_ERROR))
            if sample_rate <= 0:
                raise SpeechUnavailable(f"espeak-ng did not start with its data in {data.decode()}")
            library.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
            library.espeak_SetSynthCallback(callback)
            if library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise SpeechUnavailable(
                    f"espeak-ng has no voice {voice!r}; en-us, de, fr and es are some that it has"
                )
            library.espeak_SetParameter(_RATE_PARAMETER, rate, 0)
            library.espeak_SetParameter(_PITCH_PARAMETER, pitch, 0)
            encoded = text.encode() + b"\0"
            library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded)), 0, 1, 0, _UTF8, None, None)
            library.espeak_Synchronize()
            library.espeak_Terminate()
        finally:
            _unload(library)
    return np.frombuffer(b"".join(parts), dtype=np.int16), sample_rate, starts


def _unload(library: ctypes.CDLL) -> None:
    import _ctypes

    unload: Any = getattr(_ctypes, "dlclose", None) or getattr(_ctypes, "FreeLibrary", None)
    assert unload is not None, "every platform with ctypes can unload a library"
    unload(library._handle)
