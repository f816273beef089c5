"""``make bench-instructions``: machine instructions of a call's messages, counted and not timed.

Plays ``bench/frame.py`` under callgrind twice, one turn and three, and takes the difference, so that starting and
setting up are in neither. Counted is what the transport's owner does with readable sockets: reading, decoding,
deciding, encoding, writing; without the kernel, the hub's rounds and the other tasks. The same version gives the same
count to a ten-thousandth, whatever else the machine does and however fast it is; so this tells two versions
apart where the clock cannot. ``--against DIR`` counts another checkout, with its own ``.venv``, beside this one.

It says how much is done and not how long that takes: caches and the kernel are for ``bench/media.py``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENTRY = "CPyDef_direct_socket___DirectSocket___on_ready"
"""What the compiled library calls the one step in which a socket's messages are handled."""
FEW, MANY, TURN_SECONDS = 1, 3, 10
_LINE = re.compile(r"\s*([\d,]+)\s+\(\s*[\d.]+%\)\s+(.*)")
_LIBRARIES = {
    "compiled_modules": "callrt, compiled",
    "/msgspec/": "msgspec",
    "/websockets/": "websockets",
    "libpython": "Python",
    "libc.so": "the C library",
}


class NotCounted(Exception):
    """One sentence for a person."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Machine instructions of one call's messages.")
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout with a .venv")
    parser.add_argument("--functions", type=int, default=0, metavar="N", help="and the N dearest functions")
    args = parser.parse_args()
    try:
        counts = {"this one": count(ROOT, Path(sys.executable))}
        if args.against is not None:
            other = args.against.resolve()
            counts[str(args.against)] = count(other, other / ".venv/bin/python")
    except NotCounted as error:
        print(f"bench/instructions.py: {error}", file=sys.stderr)
        return 1
    report(counts, args.functions)
    return 0


def report(counts: dict[str, Counter[tuple[str, str]]], functions: int) -> None:
    """Thousands of instructions per call-second, by library."""
    libraries: dict[str, Counter[str]] = {name: Counter() for name in counts}
    for name, of_functions in counts.items():
        for (library, _), number in of_functions.items():
            libraries[name][library] += number
    print(f"{'thousands per call-second':32}" + "".join(f"{name:>16}" for name in counts))
    first = next(iter(libraries.values()))
    for library, _ in first.most_common():
        print(f"{library:32}" + "".join(f"{found[library] / 1000:16,.0f}" for found in libraries.values()))
    print(f"{'together':32}" + "".join(f"{found.total() / 1000:16,.0f}" for found in libraries.values()))
    for (library, function), _ in next(iter(counts.values())).most_common(functions):
        row = "".join(f"{found[library, function] / 1000:16,.1f}" for found in counts.values())
        print(f"{function[:31]:32}{row}  {library}")


def count(checkout: Path, python: Path) -> Counter[tuple[str, str]]:
    """Instructions per call-second, by library and function."""
    few, many = (play(checkout, python, turns) for turns in (FEW, MANY))
    many.subtract(few)
    seconds = (MANY - FEW) * TURN_SECONDS
    return Counter({key: round(number / seconds) for key, number in many.items() if number > 0})


def play(checkout: Path, python: Path, turns: int) -> Counter[tuple[str, str]]:
    """All that ``bench/frame.py`` of that checkout does in its steps. Raises :class:`NotCounted`."""
    if shutil.which("valgrind") is None:
        raise NotCounted("there is no valgrind; install the package of that name")
    if not python.exists():
        raise NotCounted(f"{checkout} has no .venv; run make in it")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        options = ["--tool=callgrind", f"--toggle-collect={ENTRY}", f"--callgrind-out-file={out}"]
        run = subprocess.run(
            ["valgrind", *options, str(python), "bench/frame.py", "--turns", str(turns)],
            cwd=checkout,
            # One order of sets and no second thread of the linear algebra's: the same count each time.
            env=os.environ | {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        if run.returncode:
            raise NotCounted(f"bench/frame.py of {checkout} failed: {run.stderr.strip().splitlines()[-1]}")
        listing = subprocess.run(
            ["callgrind_annotate", "--threshold=100", "--auto=no", str(out)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    found = parse(listing)
    if not found:
        raise NotCounted(
            f"{checkout} is not compiled, and only a compiled step has a name; run make compiled"
        )
    return found


def parse(listing: str) -> Counter[tuple[str, str]]:
    """The lines of ``callgrind_annotate``, of which recursion and inlining make several for one function."""
    found: Counter[tuple[str, str]] = Counter()
    for line in listing.splitlines():
        match = _LINE.fullmatch(line)
        if match is None or "PROGRAM TOTALS" in line:
            continue
        place, _, where = match.group(2).partition(" [")
        library = next((name for part, name in _LIBRARIES.items() if part in where), "other")
        if not where and "/Python-" in place:  # of what is inlined only the source is said
            library = "Python"
        function = place.rpartition(":")[2].partition("'")[0]
        found[library, function] += int(match.group(1).replace(",", ""))
    return found


if __name__ == "__main__":
    sys.exit(main())
