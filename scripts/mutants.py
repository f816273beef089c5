"""Break the supervisor on purpose, in telling ways, and show that the tests notice each time.

Each mutant is one change to a copy of the package; the named tests run against the copy and must fail. A mutant that
survives is a hole in the tests (or dead code): exit status 1. Usage: mutants.py [--jobs N] [NAME...]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TESTS = "tests/supervision/test_supervision_"
TIMEOUT_SECONDS = 900
"""A mutant that hangs is caught: the real tests end long before."""


class Mutant(NamedTuple):
    name: str
    breaks: str
    file: str
    old: str
    new: str
    tests: str
    """Test modules (without prefix) that should notice, best first."""


MUTANTS = (
    Mutant(
        "shield-removed",
        "cancellation reaches all children at once, in any order",
        "engine.py",
        "with trio.CancelScope(shield=True):\n                async with",
        "with trio.CancelScope(shield=False):\n                async with",
        "stopping sweep",
    ),
    Mutant(
        "watcher-deaf",
        "a cancelled supervisor never hears of it",
        "engine.py",
        'finally:\n            self.request_stop("cancelled")',
        "finally:\n            pass",
        "stopping",
    ),
    Mutant(
        "stop-unshielded",
        "a supervisor below another one that is cancelled waits for nobody to stop",
        "stopping.py",
        "trio.CancelScope(deadline=deadline, shield=True)",
        "trio.CancelScope(deadline=deadline)",
        "stopping sweep",
    ),
    Mutant(
        "cancelled-behind-a-shield",
        "a cancellation that came during a stop is noticed only after the next start",
        "engine.py",
        "if self.why is None and trio.current_effective_deadline() == -math.inf:",
        "if False:",
        "stopping",
    ),
    Mutant(
        "cancellation-swallowed",
        "what a supervisor below another one took for a stop request is not raised again",
        "engine.py",
        "await trio.lowlevel.checkpoint_if_cancelled()",
        "pass",
        "stopping",
    ),
    Mutant(
        "stale-exit",
        "an exit that was dealt with counts again",
        "engine.py",
        "if child is None or child.inc is not inc:\n            return  # stale",
        "if child is None:\n            return  # stale",
        "restarts sweep",
    ),
    Mutant(
        "latch-ignored-by-launch",
        "a stopping supervisor still starts children",
        "launching.py",
        'if run.ending():\n            return Launch("stopped")\n        assert',
        "assert",
        "specs_and_start stopping sweep restarts",
    ),
    Mutant(
        "interrupt-lost",
        "a stop waits for a start that hangs",
        "engine.py",
        "        self.launcher.interrupt()\n",
        "",
        "specs_and_start",
    ),
    Mutant(
        "delay-ahead-of-stop",
        "the group lives on while its restart waits",
        "restarts.py",
        "await self._stop_live([member for member in group if member is not child])",
        "await trio.sleep(delay)\n"
        "        await self._stop_live([member for member in group if member is not child])",
        "backoff model",
    ),
    Mutant(
        "stop-order",
        "children stop in start order",
        "engine.py",
        "stop_in_order(children[::-1])",
        "stop_in_order(children)",
        "stopping sweep",
    ),
    Mutant(
        "group-stop-order",
        "a group stops in start order",
        "restarts.py",
        "[member for member in members if member.live][::-1]",
        "[member for member in members if member.live]",
        "restarts sweep model",
    ),
    Mutant(
        "window-reset",
        "one old restart that falls out of the window empties it",
        "intensity.py",
        "            del self._times[0]",
        "            self._times.clear()",
        "restarts model",
    ),
    Mutant(
        "window-edge",
        "a restart exactly one period ago counts no more",
        "intensity.py",
        "now - self._times[0] > self.period",
        "now - self._times[0] >= self.period",
        "restarts",
    ),
    Mutant(
        "window-off-by-one",
        "one restart too many",
        "intensity.py",
        "if self.count(now) >= self.max_restarts",
        "if self.count(now) > self.max_restarts",
        "restarts",
    ),
    Mutant(
        "retries-free",
        "failed restarts are not counted",
        "restarts.py",
        "if not run.window.add(now):",
        "if acked_at is not None and not run.window.add(now):",
        "restarts model",
    ),
    Mutant(
        "wrapper-except-exception",
        "KeyboardInterrupt and foreign Cancelled escape into the nursery",
        "child.py",
        "except BaseException as exc:",
        "except Exception as exc:",
        "escalation",
    ),
    Mutant(
        "foreign-cancelled-is-shutdown",
        "a stray Cancelled passes as an orderly end",
        "exits.py",
        "isinstance(leaf, OrderlyStop) for",
        'isinstance(leaf, OrderlyStop) or type(leaf).__name__ == "Cancelled" for',
        "escalation",
    ),
    Mutant(
        "bystander-restarted",
        "temporary children come back with their group",
        "restarts.py",
        'if member.spec.restart == "temporary":\n                if',
        'if member.spec.restart == "never":\n                if',
        "restarts model",
    ),
    Mutant(
        "rest-for-one-all",
        "rest_for_one takes the earlier ones along",
        "restarts.py",
        'run.strategy == "one_for_all" else everybody[everybody.index(child) :]',
        'run.strategy == "one_for_all" else everybody',
        "restarts",
    ),
    Mutant(
        "due-alone",
        "when delays differ, only the child whose timer fired comes back",
        "restarts.py",
        "candidates = run.children.values() if together else [child]",
        "candidates = [child]",
        "backoff",
    ),
    Mutant(
        "health-forgotten",
        "a healthy run does not reset the delay",
        "restarts.py",
        "now - acked_at >= backoff.reset_after",
        "now - acked_at >= 10 * backoff.reset_after",
        "backoff model",
    ),
    Mutant(
        "endless-loop",
        "max_consecutive is ignored",
        "restarts.py",
        "child.failures > backoff.max_consecutive",
        "child.failures > 10 * backoff.max_consecutive",
        "backoff model",
    ),
    Mutant(
        "give-up-restarted",
        "a permanent failure is tried again",
        "exits.py",
        "return carries(exc, (GiveUp, *also))",
        "return False",
        "escalation",
    ),
    Mutant(
        "exception-kept",
        "the supervisor keeps dead frames alive",
        "restarts.py",
        "        end.forget()\n        await self._stop_live",
        "        child.kept = end.error  # type: ignore\n        await self._stop_live",
        "escalation",
    ),
    Mutant(
        "escalation-silent",
        "a supervisor that gives up ends as if all were well",
        "restarts.py",
        "run.outcome.__cause__ = end.error\n        run.emit(Escalated",
        "run.outcome = None\n        run.emit(Escalated",
        "escalation restarts",
    ),
    Mutant(
        "auto-shutdown-any",
        "all_significant means any_significant",
        "restarts.py",
        'if mode == "all_significant" and any(',
        'if mode == "never" and any(',
        "escalation model",
    ),
    Mutant(
        "no-spin-guard",
        "a child that drops its cancellation holds the virtual clock for ever",
        "stopping.py",
        "                self._scope.cancel()\n\n\nclass SpinSample",
        "                pass\n\n\nclass SpinSample",
        "stopping",
    ),
    Mutant(
        "everybody-spins",
        "a busy neighbour makes a child a suspect",
        "stopping.py",
        "if not self._sample.stepped():",
        "if False:",
        "stopping",
    ),
    Mutant(
        "no-unwinding",
        "a child at its deadline gets no round to unwind",
        "stopping.py",
        "for _ in range(UNWIND_ROUNDS):",
        "for _ in range(0):",
        "stopping",
    ),
    Mutant(
        "cut-stops-here",
        "running out of time does not reach the levels below",
        "child.py",
        "            self.ctx.sub.cut()",
        "            pass",
        "stopping",
    ),
    Mutant(
        "stuck-is-silent",
        "a supervisor waits for ever on one that waits for somebody unresponsive",
        "engine.py",
        "self.ctx.run.stuck_below(self.ctx)",
        "pass",
        "stopping",
    ),
    Mutant(
        "fence-open",
        "an unresponsive incarnation may still speak",
        "stopping.py",
        "inc.ctx.fenced = True",
        "inc.ctx.fenced = False",
        "stopping",
    ),
    Mutant(
        "cleanup-unbounded",
        "a clean-up outlives the shutdown time",
        "context.py",
        "            scope.deadline = min(scope.deadline, self.stop_deadline)",
        "            pass",
        "cleanup stopping",
    ),
    Mutant(
        "calls-forgotten",
        "calls that wait when the supervisor stops are never answered",
        "engine.py",
        "        self._refuse_calls()\n        for _ in",
        "        for _ in",
        "admin",
    ),
    Mutant(
        "failed-start-kept",
        "start_child that fails leaves its spec",
        "admin.py",
        "            run.forget(child)\n        _raise",
        "            pass\n        _raise",
        "admin",
    ),
    Mutant(
        "poison-loop",
        "a message stays in the mailbox until it is handled",
        "mailbox.py",
        "message, ask = self._control.popleft()\n        elif",
        "message, ask = self._control[0]\n            if ask is not None or holder.incarnation > 1:\n"
        "                self._control.popleft()\n        elif",
        "messages",
    ),
    Mutant(
        "ask-hangs",
        "an ask waits for its timeout though its handler is dead",
        "mailbox.py",
        "for ask in [ask for ask, taken in self._asks.items() if taken]:",
        "for ask in []:",
        "messages stopping",
    ),
    Mutant(
        "names-last",
        "monitors fire while the dead one can still be looked up",
        "mailbox.py",
        "        for name in names:\n            name.release()\n",
        "",
        "messages",
    ),
    Mutant(
        "uncounted-loss",
        "shed messages leave the books",
        "mailbox.py",
        'self._bury("shed", lane, self._media.popleft()[1])',
        "self._media.popleft()",
        "messages",
    ),
    Mutant(
        "timeout-wins-the-tie",
        "a message that arrives exactly at the timeout is overlooked",
        "context.py",
        "            return self.address.take_nowait(self)  # at an exact tie the timeout wins: look once more",
        "            raise trio.WouldBlock",
        "messages",
    ),
    Mutant(
        "breaker-many-trials",
        "a half-open breaker lets everybody through",
        "breaker.py",
        'if self._state == "open" and trio.current_time() >= self.retry_at:',
        'if self._state != "closed" and trio.current_time() >= self.retry_at:',
        "breaker",
    ),
)


def run_tests(source: Path, modules: str) -> tuple[bool, str]:
    """Run the modules against the package in ``source``: passed?, the last telling line."""
    files = [f"{TESTS}{module}.py" for module in modules.split()]
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-W", "ignore", *files]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False, f"did not end within {TIMEOUT_SECONDS} s"
    telling = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode not in (0, 1):
        telling = [f"pytest ended with status {done.returncode}"]
    return done.returncode == 0, telling[0].split("::")[-1].split(" - ")[0] if telling else ""


def try_mutant(mutant: Mutant) -> tuple[Mutant, bool, str, float]:
    """Caught?, by what, after how many seconds."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="callrt-mutant-") as folder:
        source = Path(folder)
        shutil.copytree(
            ROOT / "src" / "callrt", source / "callrt", ignore=shutil.ignore_patterns("__pycache__")
        )
        file = source / "callrt" / "supervision" / mutant.file
        text = file.read_text()
        if text.count(mutant.old) != 1:
            return (
                mutant,
                False,
                f"does not apply: found {text.count(mutant.old)} times in {mutant.file}",
                0.0,
            )
        file.write_text(text.replace(mutant.old, mutant.new))
        passed, telling = run_tests(source, mutant.tests)
    return mutant, not passed, telling, time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=max(1, os.cpu_count() or 1))
    parser.add_argument("names", nargs="*", help="only these mutants")
    arguments = parser.parse_args()
    known = [mutant.name for mutant in MUTANTS]
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        print(f"mutants: no mutant named {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    chosen = [mutant for mutant in MUTANTS if not arguments.names or mutant.name in arguments.names]
    survivors = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for mutant, caught, telling, seconds in pool.map(try_mutant, chosen):
            survivors += not caught
            verdict = "caught  " if caught else "SURVIVED"
            print(f"{verdict} {mutant.name:30} {seconds:5.1f} s  {telling or mutant.breaks}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
