"""callrt: phone calls with speech-to-speech agents that do not drop."""

from __future__ import annotations

__version__ = "0.1.0"
