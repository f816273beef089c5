"""Virtual environments for other projects, so that theirs and ours never mix: ``python bench/environments.py``."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent / "peers"


class Unavailable(Exception):
    """This program cannot run here. One sentence."""


def interpreter_of(name: str) -> Path:
    """The interpreter of an environment that has been made. Raises :class:`Unavailable`."""
    python = _folder(name) / "bin" / "python"
    if not (_folder(name) / ".installed").exists():
        raise Unavailable("it is not installed; run: make bench-peers")
    return python


def make(name: str) -> str:
    """Install what its requirements say, once. Returns how it went, in one sentence."""
    wanted = HERE / f"requirements-{name}.txt"
    stamp = _folder(name) / ".installed"
    if stamp.exists() and stamp.read_text() == wanted.read_text():
        return f"{name}: is installed"
    venv.create(_folder(name), with_pip=True, clear=True)
    command = [str(_folder(name) / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    command += ["--disable-pip-version-check", "-r", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["pip said nothing"]
        return f"{name}: could not be installed: {lines[-1]}"
    stamp.write_text(wanted.read_text())
    return f"{name}: installed"


def names() -> list[str]:
    return sorted(path.stem.removeprefix("requirements-") for path in HERE.glob("requirements-*.txt"))


def _folder(name: str) -> Path:
    return HERE / ".environments" / name


def main() -> int:
    for name in names():
        print(f"callrt: {make(name)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
