"""A tool that ends "the process" ends only itself.

``os._exit`` and ``os.abort`` in a tool that runs in one of our threads would end every call of this process.
In such a thread they raise SystemExit instead, which the runner takes for a failed tool. A process of a tool's own
(``killable=True``) is the way to contain what this cannot: native code that crashes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_here = threading.local()
_installed = False


@contextmanager
def guarded() -> Iterator[None]:
    """The present thread runs a tool: it may not end the process."""
    install()
    _here.tool = True
    try:
        yield
    finally:
        _here.tool = False


def install() -> None:
    """Once per process, before tools are imported: what they take from ``os`` by name is guarded too. Idempotent."""
    global _installed
    if _installed:
        return
    _installed = True
    os._exit = _instead_of(os._exit)
    os.abort = _instead_of(os.abort)


def _instead_of(original: Callable[..., Any]) -> Callable[..., Any]:
    def end(*arguments: Any) -> Any:
        if getattr(_here, "tool", False):
            raise SystemExit("a tool tried to end the process")
        return original(*arguments)

    return end
