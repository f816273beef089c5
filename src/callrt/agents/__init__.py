"""What the user of callrt writes: tools for agents.

``from callrt import tool, CallContext`` is the short way to the names that tools need.
"""

from __future__ import annotations

from callrt.agents.context import CallContext
from callrt.agents.declare import Tool, tool
from callrt.agents.errors import ToolError, ToolFailed
from callrt.agents.load import load_tools
from callrt.protocol.tools import END_CALL, RESERVED_NAMES, TRANSFER_TO_HUMAN

__all__ = [
    "END_CALL",
    "RESERVED_NAMES",
    "TRANSFER_TO_HUMAN",
    "CallContext",
    "Tool",
    "ToolError",
    "ToolFailed",
    "load_tools",
    "tool",
]
