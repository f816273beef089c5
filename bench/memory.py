"""``make bench-memory``: what a call's memory is made of.

Starts the service as it is installed, with a probe in it, and plays calls to it: 25, then 125; the difference is
shared among the hundred. Twice: once for what the operating system sees (resident memory, which also holds what
malloc keeps and what lies fallow between live objects), once with ``tracemalloc`` for what Python has asked for, by
part of the program and by line. The calls go on for a while: what grows with each turn. Then all hang up: what stays,
and what only the garbage collector finds.
"""

from __future__ import annotations

import argparse
import gc
import linecache
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

sys.path.insert(0, str(Path(__file__).parent))

from generator.model import Model
from generator.phone import Calls
from generator.world import Plan, World
from programs import ACCOUNT, CONFIG, KEY, free_port

FIRST, THEN = 25, 125
RAMP_PER_SECOND = 40
PARTS = (
    ("trio/", "Trio: tasks, scopes, coroutines"),
    ("attrs generated methods trio", "Trio: tasks, scopes, coroutines"),
    ("callrt/supervision/", "supervision"),
    ("callrt.supervision", "supervision"),
    ("callrt/actors/", "actors"),
    ("callrt.actors", "actors"),
    ("callrt/protocol/uplink.py", "the caller's last seconds"),
    ("callrt/protocol/voice.py", "speech that waits"),
    ("callrt/protocol/", "protocol"),
    ("callrt.protocol", "protocol"),
    ("callrt/wire/", "wire"),
    ("callrt.wire", "wire"),
    ("callrt/service/", "service"),
    ("callrt/", "the rest of callrt"),
)
"""By what is in a file's name; the first that fits."""


@attrs.frozen
class Look:
    """What the probe saw."""

    resident_kb: int
    tasks: Counter[str]
    kinds: Counter[str]
    lines: dict[tuple[str, int], int]
    """Bytes by file and line, where they are traced."""
    garbage: int
    """Objects that only the collector has found."""


# -- inside the service ----------------------------------------------------------------------------------------


def probe(out: str, traced: bool, argv: list[str]) -> int:
    """``callrt`` with these arguments, which writes a :class:`Look` to ``out`` when it gets a SIGUSR1."""
    from callrt.cli.main import main as callrt

    def write(*_: object) -> None:
        resident = resident_kb()
        snapshot = tracemalloc.take_snapshot().statistics("lineno") if traced else []
        lines = {(s.traceback[0].filename, s.traceback[0].lineno): s.size for s in snapshot}
        garbage = gc.collect()
        kinds = Counter(f"{type(o).__module__}.{type(o).__name__}" for o in gc.get_objects())
        Path(out + ".new").write_bytes(
            pickle.dumps(attrs.astuple(Look(resident, names(), kinds, lines, garbage), recurse=False))
        )
        os.rename(out + ".new", out)

    signal.signal(signal.SIGUSR1, write)
    gc.disable()  # what is cyclic garbage is to be found by the probe
    if traced:
        tracemalloc.start()
    return callrt(argv)


def resident_kb() -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


def names() -> Counter[str]:
    """Living tasks by name, whatever call they are of."""
    found: Counter[str] = Counter()
    root = trio.lowlevel.current_root_task()
    waiting = [] if root is None else [root]
    while waiting:
        task = waiting.pop()
        found[re.sub(r"\bCA\w+", "CA…", task.name)] += 1
        waiting.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
    return found


# -- outside ---------------------------------------------------------------------------------------------------


class Silent(Model):
    """It never answers."""

    def _caller_speaks(self) -> None:
        pass


class Rig:
    """The service, and calls to it."""

    def __init__(self, process: subprocess.Popen[bytes], world: World, calls: Calls, out: Path) -> None:
        self.process = process
        self.world = world
        self.calls = calls
        self.out = out

    def fill(self, count: int) -> None:
        asked = len(self.calls.live)
        for _ in range(count - asked):
            self.calls.start()
            self.world.run(1 / RAMP_PER_SECOND)

    def look(self) -> Look:
        self.out.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        while not self.out.exists():
            self.world.run(0.05)
        return Look(*pickle.loads(self.out.read_bytes()))


@contextmanager
def rig(*, traced: bool, idle: bool) -> Iterator[Rig]:
    with tempfile.TemporaryDirectory() as name:
        folder, port, model_port = Path(name), free_port(), free_port()
        fields = {"port": port, "admin": free_port(), "model_port": model_port, "rest_port": model_port}
        text = CONFIG.format(**fields, scheme="ws", audio="", key=KEY, account=ACCOUNT)
        (folder / "callrt.toml").write_text(text)
        command = [sys.executable, __file__, "--probe", str(folder / "look"), str(int(traced))]
        command += ["serve", "--config", str(folder / "callrt.toml")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1).close())
            world = World(
                Plan("127.0.0.1", port, "/twilio/voice", None, ACCOUNT, KEY, False), model_port, None
            )
            calls = Calls(world)
            world.answer = partial(Silent if idle else Model, world, calls)
            yield Rig(process, world, calls, folder / "look")
        finally:
            process.terminate()
            process.wait(30)


def wait_for(attempt: Callable[[], None], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            attempt()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def part_of(filename: str) -> str:
    return next((part for word, part in PARTS if word in filename), "the rest")


def short(filename: str) -> str:
    return filename.rpartition("site-packages/")[2].rpartition("/src/")[2]


def compare(args: argparse.Namespace, *, traced: bool) -> None:
    with rig(traced=traced, idle=args.idle) as it:
        it.fill(FIRST)
        it.world.run(args.settle)
        before, few = it.look(), len(it.calls.live)
        it.fill(THEN)
        it.world.run(args.settle)
        after, many = it.look(), len(it.calls.live)
        it.world.window.replies = 0
        it.world.run(args.hold)
        later, turns = it.look(), it.world.window.replies
        it.calls.hang_up(many)
        it.world.run(3.0)
        ended = it.look()
    share = 1 / (many - few)
    if not traced:
        print(f"resident memory: {(after.resident_kb - before.resident_kb) * share:.0f} kB per call")
        objects = sum(after.kinds.values()) - sum(before.kinds.values())
        tasks = after.tasks - before.tasks
        print(f"objects that the collector looks at: {objects * share:.0f} per call")
        print(f"tasks: {sum(tasks.values()) * share:.0f} per call")
        for name, count in sorted(tasks.items()):
            print(f"  {count * share:5.1f}  {name}")
        print(f"after the calls have ended: {ended.garbage / many:.0f} objects per call in cycles")
        if args.hold and turns:
            grown, kinds = later.resident_kb - after.resident_kb, later.kinds - after.kinds
            print(f"{turns / many:.0f} turns later: {grown / turns:.2f} kB more with each")
            for name, count in kinds.most_common(5):
                print(f"  {count / turns:5.2f}  {name}")
        return
    size = grown_lines(before, after)
    parts: Counter[str] = Counter()
    for (filename, _), grown in size.items():
        parts[part_of(filename)] += grown
    print(f"asked for by Python: {sum(size.values()) * share / 1000:.0f} kB per call")
    for part, grown in parts.most_common():
        print(f"  {grown * share / 1000:5.1f} kB  {part}")
    print("the largest lines:")
    print_lines(size, share, args.lines)
    if args.hold and turns:
        size = grown_lines(after, later)
        print(f"{turns / many:.0f} turns later: {sum(size.values()) / turns:.0f} B more with each")
        print_lines(size, 1 / turns, 3)


def grown_lines(before: Look, after: Look) -> Counter[tuple[str, int]]:
    size = Counter(after.lines)
    size.subtract(before.lines)
    return size


def print_lines(size: Counter[tuple[str, int]], share: float, most: int) -> None:
    for (filename, number), grown in size.most_common(most):
        print(
            f"  {grown * share:7.0f} B  {short(filename)}:{number}  {linecache.getline(filename, number).strip()}"
        )


def main() -> int:
    if sys.argv[1:2] == ["--probe"]:
        return probe(sys.argv[2], sys.argv[3] == "1", sys.argv[4:])
    parser = argparse.ArgumentParser(description="What a call's memory is made of.")
    parser.add_argument("--idle", action="store_true", help="the model never speaks")
    parser.add_argument(
        "--settle", type=float, default=5.0, help="seconds before a look (default %(default)s)"
    )
    parser.add_argument(
        "--hold", type=float, default=60.0, help="seconds that they go on (default %(default)s)"
    )
    parser.add_argument("--lines", type=int, default=25, help="of source, shown (default %(default)s)")
    args = parser.parse_args()
    for traced in (False, True):
        compare(args, traced=traced)
    return 0


if __name__ == "__main__":
    sys.exit(main())
