"""The load generator: N telephones and N models in one process, on raw sockets, with a mark inside the audio.

Both ends of every call live here, so one clock sees a frame go in and come out:

* up: every 20 ms frame of the caller is stamped (or one frame a second, see ``generator/audio.py``) and found again
  at the model's end.
* down: the first audio of every reply is, and is found again at the carrier's end. Later audio is paced on
  purpose, so for it *starvation* is measured: milliseconds in which the carrier's buffer was dry in mid-reply.

Carriers echo marks when their buffer has drained to them and obey ``clear``. All phases are spread. The processor
time of the program under test is read from /proc at the ends of each window. One JSON object per step goes to stdout.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from generator.books import Row, measure, memory_kb
from generator.model import Model
from generator.phone import Calls
from generator.verdict import generator_was_the_limit, shortfalls
from generator.world import Plan, World, now

RAMP_PER_SECOND = 40
"""Calls that begin; the figures of their start are taken at this rate."""
RAMP_SEARCHING = 100
STARTING_MAX = 4
"""Calls that have rung and are not yet answered."""
PATIENCE = 1.0
"""Seconds for one of them to be answered; after that the next one rings all the same."""
CLIMB = 1.15
MOST = 1000
"""Calls, in a search."""


class Load:
    """One program's life under load, one number of calls after the other."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        plan = Plan(args.host, args.port, args.webhook, args.stream, args.account, args.key, args.beacon)
        self.world = World(plan, args.model_port, args.tls)
        self.calls = Calls(self.world)
        self.world.answer = partial(Model, self.world, self.calls)
        self.before = (memory_kb(args.pid), 0)
        self.allowance = args.allowance_ms
        self.good, self.bad = 0, 0
        self.killing = False

    def step(self, count: int, *, kill: bool = False, searching: bool = False) -> Row:
        """So many calls, measured."""
        args, world, calls = self.args, self.world, self.calls
        calls.hang_up(max(0, len(calls.live) - count))
        self._ramp(count - len(calls.live), max(args.ramp, RAMP_SEARCHING) if searching else args.ramp)
        world.run(args.settle)
        self.killing = kill
        if kill:
            self._kill()
        row: Row = {"calls": count, "memory_kb_per_call": None} | measure(
            world, calls, args.pid, args.seconds
        )
        self.killing = False
        memory, others = self.before
        if count > others:
            row["memory_kb_per_call"] = round((row["memory_kb"] - memory) / (count - others), 1)
        if not others:
            # From here on growth counts: the first calls also pay for what is loaded once.
            self.before = row["memory_kb"], count
        if args.own_delay and not self.allowance:
            self.allowance = max(row["up_p99_ms"] or 0.0, row["down_p99_ms"] or 0.0)
        row["allowance_ms"] = self.allowance
        row["kills_per_second"] = args.kill_per_second if kill else 0
        row["searching"] = searching
        row["missing"] = shortfalls(
            row, args.bound_ms, allowance_ms=self.allowance, steady=not args.own_delay, tail=args.tail
        )
        row["generator_limit"] = generator_was_the_limit(row)
        print(json.dumps(row), flush=True)
        if not kill:
            self._judge(row)
        return row

    def _ramp(self, count: int, per_second: float) -> None:
        """So many calls more, no faster than the program takes them: it is not judged by how it bears a rush."""
        for _ in range(count):
            self.calls.start()
            self.world.run(1 / per_second)
            patience = now() + PATIENCE
            while len(self.calls.starting) >= STARTING_MAX and now() < patience:
                self.world.run(0.005)

    def _judge(self, row: Row) -> None:
        if row["missing"]:
            self.bad = row["calls"]
        else:
            self.good = row["calls"]

    def _kill(self) -> None:
        if self.killing:
            self.calls.kill_one()
            self.world.at(now() + 1 / self.args.kill_per_second, self._kill)

    def climb(self) -> None:
        """Up until it does not hold."""
        while self.good and not self.bad and self.good < self.args.most:
            self.step(min(self.args.most, int(self.good * CLIMB) + 1), searching=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--webhook", default="/twilio/voice")
    parser.add_argument("--stream", help="stream address, for programs without a webhook")
    parser.add_argument("--key", default="bench")
    parser.add_argument("--account", default="AC" + "0" * 32)
    parser.add_argument("--model-port", type=int, required=True)
    parser.add_argument("--tls", help="certificate and key of the model's end")
    parser.add_argument("--beacon", action="store_true", help="the program resamples the audio")
    parser.add_argument(
        "--own-delay", action="store_true", help="allow the latency that the program has at the first step"
    )
    parser.add_argument("--allowance-ms", type=float, default=0.0, help="or this much, if it is known")
    parser.add_argument("--pid", type=int, action="append", required=True)
    parser.add_argument("--steps", default="25,100", help="numbers of calls, ascending")
    parser.add_argument("--ramp", type=float, default=RAMP_PER_SECOND, help="calls that begin each second")
    parser.add_argument("--settle", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--bound-ms", type=float, default=20.0)
    parser.add_argument(
        "--climb", action="store_true", help="go on by 15 %% more until the bound does not hold"
    )
    parser.add_argument("--most", type=int, default=MOST, help="calls, in a search")
    parser.add_argument("--kill-per-second", type=float, default=0.0, help="repeat each step, killing calls")
    parser.add_argument("--core", type=int, help="run on this core only")
    parser.add_argument("--tail", choices=("p99", "p95"), default="p99", help="the latency that is bounded")
    args = parser.parse_args()
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    gc.disable()  # nothing here is cyclic for long, and a collection would be counted as the program's latency
    load = Load(args)
    for count in (int(word) for word in args.steps.split(",")):
        row = load.step(count)
        if args.kill_per_second and row["live"]:
            load.step(count, kill=True)
        late = max(row["up_p99_ms"] or 1e9, row["down_p99_ms"] or 0.0)
        if late > 5 * (args.bound_ms + load.allowance) or not row["live"]:
            break
    if args.climb:
        load.climb()
    load.calls.hang_up(len(load.calls.live))
    load.world.run(1.0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
