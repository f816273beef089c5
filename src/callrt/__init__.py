"""callrt: phone calls with speech-to-speech agents that do not drop."""

from __future__ import annotations

# Before all others: it decides which of them are found as machine code.
from callrt import compiled as compiled
from callrt.agents import CallContext, Tool, ToolError, ToolFailed, load_tools, tool

__all__ = ["CallContext", "Tool", "ToolError", "ToolFailed", "__version__", "load_tools", "tool"]

__version__ = "0.1.0"
