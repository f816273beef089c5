"""``make bench-transcoding``: what it costs when the model speaks 24 kHz PCM, and what it does to the sound.

One call's second is fifty frames up and, as the agent speaks three quarters of the time, 3.75 pieces of 200 ms
down, through the model's codec with and without the transcoder. Processor time, on one core, no sockets: the
larger messages' way through the sockets is in ``bench/media.py --programs callrt,callrt-pcm24``.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable

import numpy as np

from callrt.protocol.audio import Resampler, Samples, mulaw_decode, mulaw_encode, pcm_decode, pcm_encode
from callrt.protocol.models.openai_realtime import OpenAIRealtimeCodec
from callrt.protocol.models.transcoding import Dialect, codec_for

SECONDS = 8
DELTAS_PER_SECOND = 3.75
ROUNDS = 15
NARROW, WIDE = 8_000, 24_000


def main() -> int:
    mulaw, pcm = (call_second(form) for form in ("pcmu", "pcm24"))
    print(f"codec, mu-law model:       {mulaw:.3f} ms CPU per call-second")
    print(f"codec, 24 kHz PCM model:   {pcm:.3f} ms CPU per call-second")
    print(f"more for transcoding:      {pcm - mulaw:.3f} ms")
    print(
        f"delay of one filter:       {delay_ms():.1f} ms; up once, down none (the model's speech is shifted back)"
    )
    print(
        f"1 kHz there and back:      {purity_db():.0f} dB noise and harmonics; of mu-law alone {line_db():.0f} dB"
    )
    return 0


def call_second(form: str) -> float:
    """In milliseconds; the least of some rounds, since a busy machine can only add."""
    frame = mulaw_encode(tone(NARROW, 0.02))
    sound = mulaw_encode(tone(NARROW, 0.2)) if form == "pcmu" else pcm_encode(tone(WIDE, 0.2))
    message = json.dumps(
        {
            "type": "response.output_audio.delta",
            "event_id": "event_1",
            "response_id": "resp_1",
            "item_id": "item_1",
            "output_index": 0,
            "content_index": 0,
            "delta": base64.b64encode(sound).decode(),
        }
    )
    codec: Dialect = codec_for("pcm24" if form == "pcm24" else "pcmu", OpenAIRealtimeCodec)
    per_frame = [milliseconds(lambda: codec.encode_audio(frame), 50 * SECONDS) for _ in range(ROUNDS)]
    deltas = int(DELTAS_PER_SECOND * SECONDS)
    per_delta = [milliseconds(lambda: codec.decode(message), deltas) for _ in range(ROUNDS)]
    return 50 * min(per_frame) + DELTAS_PER_SECOND * min(per_delta)


def milliseconds(what: Callable[[], object], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        what()
    return (time.process_time() - began) * 1000 / times


def delay_ms() -> float:
    """Of the filter, as an impulse shows it."""
    impulse = np.zeros(NARROW // 10, np.int16)
    impulse[400] = 30_000
    out = pcm_decode(Resampler(NARROW, WIDE).push(pcm_encode(impulse)))
    return (int(np.abs(out.astype(int)).argmax()) - 3 * 400) * 1000 / WIDE


def purity_db() -> float:
    """Everything but the tone, against the tone, after 8, 24 and again 8 kHz."""
    wide = Resampler(NARROW, WIDE).push(pcm_encode(tone(NARROW, 2)))
    return impurity(pcm_decode(Resampler(WIDE, NARROW).push(wide)))


def line_db() -> float:
    return impurity(mulaw_decode(mulaw_encode(tone(NARROW, 2))))


def impurity(samples: Samples) -> float:
    middle = samples[NARROW // 2 : NARROW // 2 + NARROW].astype(float)
    power = np.abs(np.fft.rfft(middle)) ** 2
    return float(10 * np.log10((power.sum() - power[1000]) / power[1000]))


def tone(rate: int, seconds: float) -> Samples:
    at = np.arange(int(rate * seconds)) / rate
    wave: Samples = np.rint(16_000 * np.sin(2 * np.pi * 1000 * at)).astype(np.int16)
    return wave


if __name__ == "__main__":
    sys.exit(main())
