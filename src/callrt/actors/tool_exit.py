"""A tool that ends "the process" ends only itself.

In the threads of a tool, those it starts included, what would end this process or drain it raises SystemExit
instead, which the runner takes for a failed tool: ``os._exit`` and ``os.abort``, ``os.exec*``, signals to
ourselves, to our group or to our parent. A process of a tool's own (``killable=True``) is the way to contain what
this cannot: native code that crashes or holds the interpreter.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_tool_in: ContextVar[int] = ContextVar("callrt_tool_in", default=0)
"""The process in which this context is a tool's. Goes along to the worker threads of Trio and asyncio, which may be
older than the tool. Not to a fork: that may end itself."""

_MARK = "_callrt_tool_in"
"""The same on a thread that a tool has started: it begins with a context of its own."""

_installed = False


@contextmanager
def guarded() -> Iterator[None]:
    """The present thread runs a tool: it may not end the process."""
    install()
    before = _tool_in.set(os.getpid())
    try:
        yield
    finally:
        _tool_in.reset(before)


def install() -> None:
    """Once per process, before tools are imported: what they take from ``os`` by name is guarded too. Idempotent."""
    global _installed
    if _installed:
        return
    _installed = True
    for name in ("_exit", "abort", "execv", "execve"):  # the other exec* are made of these two
        _guard(name, _always, os, sys.modules[os.name])
    _guard("kill", _strikes_us, os, sys.modules[os.name])
    _guard("killpg", _strikes_our_group, os, sys.modules[os.name])
    _guard("raise_signal", _always, signal)
    _guard("pthread_kill", _always, signal)
    start = threading.Thread.start

    def start_marked(thread: threading.Thread) -> None:
        if _in_tool():
            setattr(thread, _MARK, os.getpid())
        start(thread)

    threading.Thread.start = start_marked  # type: ignore[method-assign,assignment]


def _in_tool() -> bool:
    return os.getpid() in (_tool_in.get(), getattr(threading.current_thread(), _MARK, 0))


def _always(*arguments: Any, **named: Any) -> bool:
    return True


def _strikes_us(pid: int, number: int) -> bool:
    return number != 0 and pid in (os.getpid(), os.getppid(), 0, -1, -os.getpgrp())


def _strikes_our_group(group: int, number: int) -> bool:
    return number != 0 and group in (0, os.getpgrp())


def _guard(name: str, strikes: Callable[..., bool], *modules: Any) -> None:
    original = getattr(modules[0], name)

    def end(*arguments: Any, **named: Any) -> Any:
        if _in_tool() and strikes(*arguments, **named):
            raise SystemExit("a tool tried to end the process")
        return original(*arguments, **named)

    for module in modules:
        setattr(module, name, end)
