"""What a tool may know of the phone call it runs in."""

from __future__ import annotations

import logging

import attrs


@attrs.frozen
class CallContext:
    """Given to a tool that has a parameter of this type; the model does not see that parameter."""

    call_sid: str
    caller: str
    """The caller's number as the carrier gives it; may be empty."""
    agent: str
    """The agent's name in the configuration."""
    idempotency_key: str
    """The same whenever the same request is made again: give it to services that accept one."""
    logger: logging.Logger | logging.LoggerAdapter[logging.Logger]
    """Names the call and the tool on each line. Do not log the caller's words."""
