"""The recorder actor: both voices of a call into one stereo WAV file, where the operator wants it.

Left is what the caller said, right what the caller heard. The audio path only hands bytes over; the disk is
a worker thread's. A recording that fails is reported once and never heard.
"""

from __future__ import annotations

import contextlib
import os
import wave
from pathlib import Path

import numpy as np
import trio

from callrt.actors.line import Line
from callrt.protocol.audio import mulaw_decode
from callrt.protocol.tracks import Tracks
from callrt.supervision import Context

FLUSH_SECONDS = 2.0
LAST_FLUSH_SECONDS = 1.5
"""For the rest to be written when the call is over."""


async def run_recorder(line: Line, ctx: Context[object], *, task_status: trio.TaskStatus[None]) -> None:
    """Start function of the child ``recorder``. If cancelled: what was said until now is written, then it ends."""
    folder = line.ports.recordings
    line.tracks = tracks = Tracks(trio.current_time())
    task_status.started()
    writer: _WavWriter | None = None
    try:
        writer = await trio.to_thread.run_sync(_WavWriter, folder, line.call_sid)
        while True:
            await trio.sleep(FLUSH_SECONDS)
            said, heard = tracks.take(trio.current_time())
            await trio.to_thread.run_sync(writer.write, said, heard)
    except OSError as error:
        line.tracks = None
        line.report("error", f"the call is not recorded: {error.strerror or 'the disk failed'}")
        await trio.sleep_forever()
    finally:
        line.tracks = None
        if writer is not None:
            with ctx.cleanup(LAST_FLUSH_SECONDS), contextlib.suppress(OSError):
                said, heard = tracks.take(trio.current_time())
                await trio.to_thread.run_sync(writer.write, said, heard, abandon_on_cancel=True)
                await trio.to_thread.run_sync(writer.close, abandon_on_cancel=True)


class _WavWriter:
    """8 kHz, 16 bit, stereo. A call that was taken up again gets a further file; none is ever overwritten."""

    def __init__(self, folder: Path, call_sid: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(1, 1000):
            name = f"{call_sid}.wav" if number == 1 else f"{call_sid}-{number}.wav"
            try:
                descriptor = os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            except FileExistsError:
                continue
            break
        else:
            raise FileExistsError(17, "too many recordings of this call")
        self._file = os.fdopen(descriptor, "w+b")
        self._wave = wave.open(self._file, "wb")  # noqa: SIM115 (closed by close)
        self._wave.setnchannels(2)
        self._wave.setsampwidth(2)
        self._wave.setframerate(8000)

    def write(self, said: bytes, heard: bytes) -> None:
        """Blocks. The header is true after each write, so a killed process leaves a file that plays."""
        both = np.stack([mulaw_decode(said), mulaw_decode(heard)], axis=1)
        self._wave.writeframes(both.astype("<i2").tobytes())
        self._file.flush()

    def close(self) -> None:
        self._wave.close()
        self._file.close()
