"""Errors that a person at the command line sees: one sentence, never a traceback."""

from __future__ import annotations


class CallrtError(Exception):
    """Something ran and failed, and its message is one sentence fit for a person. Holds no secret."""

    exit_status = 1


class ConfigError(CallrtError):
    """The configuration or the usage is wrong: which file, which key, what to write instead."""

    exit_status = 2
