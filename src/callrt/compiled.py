"""Which modules of callrt run as machine code, and whether they do in this process.

The modules below are every frame's way. They are ordinary Python and run as such everywhere; where there was a C
compiler when callrt was installed, they have been compiled too (``scripts/compile.py``), which halves their time. What
was compiled is used only while it is of exactly the source files beside it, so whoever changes one of them
runs what he has written: from then on plain Python, until ``make compiled``. ``CALLRT_COMPILED=0`` excludes it, for
a debugger or a profiler.

This module is read by the build before anything is installed: it imports nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

MODULES: Final = (
    "callrt.actors.hearing",
    "callrt.actors.line",
    "callrt.actors.link",
    "callrt.actors.voice",
    "callrt.journal.sqlite_rows",
    "callrt.protocol.alignment",
    "callrt.protocol.attention",
    "callrt.protocol.call",
    "callrt.protocol.carriers.twilio",
    "callrt.protocol.comfort",
    "callrt.protocol.ear",
    "callrt.protocol.ledger",
    "callrt.protocol.models.openai_realtime",
    "callrt.protocol.models.session",
    "callrt.protocol.models.session_values",
    "callrt.protocol.models.tool_calls",
    "callrt.protocol.models.transcoding",
    "callrt.protocol.playback",
    "callrt.protocol.transcript",
    "callrt.protocol.turn",
    "callrt.protocol.uplink",
    "callrt.protocol.voice",
    "callrt.wire.direct_frames",
    "callrt.wire.direct_output",
    "callrt.wire.direct_socket",
)
"""No coroutines among them: Trio shows where a task waits, and cannot look into a compiled one."""

MANIFEST: Final = "compiled.json"
"""Beside this file: for which Python it was compiled, and the digest of each source."""

PACKAGE: Final = Path(__file__).parent

NEVER: Final = "not compiled when it was installed"


def source_of(module: str, package: Path = PACKAGE) -> Path:
    return package.joinpath(*module.split(".")[1:]).with_suffix(".py")


def manifest(package: Path = PACKAGE) -> dict[str, str]:
    """As it would be written now."""
    digests = {m: hashlib.sha256(source_of(m, package).read_bytes()).hexdigest() for m in MODULES}
    return {"for": EXTENSION_SUFFIXES[0], **digests}


def why_not(environment: Mapping[str, str], package: Path = PACKAGE) -> str:
    """Why plain Python is to be run; "": it is not."""
    if environment.get("CALLRT_COMPILED") == "0":
        return "CALLRT_COMPILED=0"
    try:
        if json.loads((package / MANIFEST).read_text()) == manifest(package):
            return ""
    except FileNotFoundError:
        return NEVER
    except (OSError, ValueError):
        return "what was compiled cannot be read"
    return "compiled for another Python, or of other sources than there are now: make compiled"


class _SourcesOnly(MetaPathFinder):
    """Finds the sources of ours before anybody finds what was compiled of them, now or by an earlier version."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("callrt."):
            return None
        source = source_of(fullname)
        if not source.is_file():  # a package: nothing of those is compiled
            return None
        return spec_from_file_location(fullname, source, loader=SourceFileLoader(fullname, str(source)))


def choose() -> str:
    """Decide for this process, before any of the modules is imported; returns why not, or ""."""
    reason = why_not(os.environ)
    if reason:
        sys.meta_path.insert(0, _SourcesOnly())
    return reason


REASON: Final = choose()
"""Why this process runs plain Python; "": it runs what was compiled."""
