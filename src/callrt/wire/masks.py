"""The exclusive-or of a WebSocket client's frames (RFC 6455, section 5.3).

What the websockets library has compiled takes 0.1 µs for a frame of 400 bytes and 0.3 µs for one of 8 kB. Where its
wheel is not to be had, one exclusive-or of two whole numbers does it in 1.2 and 16 µs.
"""

from __future__ import annotations

from collections.abc import Callable


def mask_by_numbers(data: bytes, mask: bytes) -> bytes:
    """``data`` masked with these four bytes, or unmasked: it is the same."""
    size = len(data)
    words = (size + 3) >> 2
    pattern = int.from_bytes(mask * words, "little")
    return (int.from_bytes(data, "little") ^ pattern).to_bytes(words << 2, "little")[:size]


mask: Callable[[bytes, bytes], bytes]
try:
    from websockets.speedups import apply_mask
except ImportError:  # a pure Python wheel
    mask = mask_by_numbers
else:
    mask = apply_mask
