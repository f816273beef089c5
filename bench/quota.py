"""The same share of one core for each worker, enforced by the kernel.

cgroups, version 1 or 2, with the ``cpu`` controller. That needs root; where it is not possible, the reason is said.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
from environments import Unavailable

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 5_000
"""Whoever has used up its share waits for the rest of such a period: that much latency is the quota's."""


@attrs.frozen
class Quota:
    """``share`` of this core for each process, and never more, however idle the core is."""

    share: float
    core: int
    tail: str = "p95"
    """The latency that is bounded. A pause lasts as many times longer as the share is smaller than a core, so the
    last hundredth would tell of the quota and of few pauses more than of what is carried."""
    root: Path = ROOT

    @property
    def pause_ms(self) -> float:
        """The longest wait that the quota itself causes."""
        return PERIOD_US * (1 - self.share) / 1000

    @contextmanager
    def on(self, pids: Sequence[int]) -> Iterator[None]:
        """Each of these processes has its share, for so long. Raises :class:`Unavailable`."""
        groups: list[Path] = []
        try:
            try:
                for pid in pids:
                    for thread in Path(f"/proc/{pid}/task").iterdir():
                        os.sched_setaffinity(int(thread.name), {self.core})
                    groups.append(self.make(f"callrt-bench-{pid}"))
                    (groups[-1] / "cgroup.procs").write_text(str(pid))
            except OSError as error:
                raise Unavailable(f"a quota cannot be set here: {error}") from error
            yield
        finally:
            for group in groups:
                remove(group)

    def obstacle(self) -> str:
        """Why a quota cannot be set here; nothing, if it can."""
        try:
            remove(self.make(f"callrt-bench-{os.getpid()}"))
        except (OSError, Unavailable) as reason:
            return str(reason)
        return ""

    def make(self, name: str) -> Path:
        """A group with this quota and nobody in it."""
        parent, first_version = self._parent()
        group = parent / name
        group.mkdir()
        quota_us = int(self.share * PERIOD_US)
        if first_version:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota_us))
        else:
            (group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        return group

    def _parent(self) -> tuple[Path, bool]:
        """Where groups are made, and whether that is version 1."""
        for name in ("cpu", "cpu,cpuacct"):
            if (self.root / name / "cpu.shares").exists():
                return self.root / name, True
        controllers = self.root / "cgroup.controllers"
        if not controllers.exists() or "cpu" not in controllers.read_text().split():
            raise Unavailable("there is no cgroup with a cpu controller here")
        enabled = self.root / "cgroup.subtree_control"
        if "cpu" not in enabled.read_text().split():
            enabled.write_text("+cpu")
        return self.root, False


def remove(group: Path) -> None:
    """Who is still in it is free again. The kernel may need a moment to see the last one off."""
    for _ in range(50):
        try:
            for pid in (group / "cgroup.procs").read_text().split():
                (group.parent / "cgroup.procs").write_text(pid)
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
