"""Python imports a module of this name before anything else. In a process whose PYTHONPATH names this folder:

* the wall clock is wrong by as many seconds as the file in CALLRT_CHAOS_CLOCK says, from one reading to the next;
* SIGUSR1 writes into the file in CALLRT_CHAOS_CENSUS what lives in the process: Trio's tasks, Python's objects.
"""

import os
import time

_clock = os.environ.get("CALLRT_CHAOS_CLOCK", "")
_census = os.environ.get("CALLRT_CHAOS_CENSUS", "")

if _clock:
    _true_time, _true_time_ns = time.time, time.time_ns

    def _wrong_by() -> float:
        with open(_clock) as file:
            return float(file.read() or 0)

    def _wrong_time() -> float:
        return _true_time() + _wrong_by()

    def _wrong_time_ns() -> int:
        return _true_time_ns() + int(_wrong_by() * 1e9)

    time.time, time.time_ns = _wrong_time, _wrong_time_ns

if _census:
    import signal

    def _count(signum: int, frame: object) -> None:
        import gc
        import json

        import trio

        try:
            tasks = trio.lowlevel.current_statistics().tasks_living
            # Trio forgets deadlines that were taken back a thousand at a time: until then they only look like a leak.
            trio._core._run.GLOBAL_RUN_CONTEXT.runner.deadlines._prune()
        except RuntimeError:
            tasks = 0  # not begun, or over
        gc.collect()
        kinds: dict[str, int] = {}
        for each in gc.get_objects():
            kind = f"{type(each).__module__}.{type(each).__qualname__}"
            kinds[kind] = kinds.get(kind, 0) + 1
        with open(_census + ".new", "w") as file:
            json.dump({"tasks": tasks, "objects": sum(kinds.values()), "kinds": kinds}, file)
        os.rename(_census + ".new", _census)

    signal.signal(signal.SIGUSR1, _count)
