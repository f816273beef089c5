"""What is done to the service is done to it: its clock, its disk, its census; and a whole scenario, once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from callrt.testing.chaos.disk import DiskWatch, SmallDisk
from callrt.testing.chaos.scenario import Blow, load_scenarios
from callrt.testing.chaos.service import INSIDE, as_fault
from callrt.testing.chaos.stage import run_scenario
from callrt.testing.sim.case import DiskTrouble, Kill, Pause


def inside(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(INSIDE), **variables}


def test_wall_clock_jumps_and_the_other_one_does_not(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")
    code = (
        "import sys, time\n"
        "for _ in range(3):\n"
        "    print(time.time(), time.monotonic(), flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=inside(CALLRT_CHAOS_CLOCK=str(clock)),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        readings = []
        for by in ("3600", "-3600", "0"):
            readings.append(tuple(float(word) for word in process.stdout.readline().split()))
            clock.write_text(by)
            process.stdin.write("\n")
            process.stdin.flush()
    (true, began), (ahead, _), (back, ended) = readings
    assert abs(true - time.time()) < 60
    assert 3500 < ahead - true < 3700
    assert -3700 < back - true < -3500
    assert 0 <= ended - began < 60


def test_census_counts_what_lives(tmp_path: Path) -> None:
    census = tmp_path / "census"
    code = (
        "import trio\n"
        "async def main():\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        for _ in range(5):\n"
        "            nursery.start_soon(trio.sleep_forever)\n"
        "        await trio.sleep(0)\n"
        "        print('ready', flush=True)\n"
        "trio.run(main)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env=inside(CALLRT_CHAOS_CENSUS=str(census)),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 20
        while not census.exists() and time.monotonic() < deadline:
            os.sched_yield()
        found = json.loads(census.read_text())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert found["tasks"] >= 6
    assert found["objects"] > 1000


@pytest.mark.parametrize("mounted", [True, False], ids=["small disk, if we may", "limit"])
def test_a_full_disk_takes_nothing_and_then_everything(tmp_path: Path, mounted: bool) -> None:
    disk = SmallDisk(tmp_path)
    if mounted:
        disk.open()
    code = (
        "import sys\n"
        "for name in sys.stdin:\n"
        "    try:\n"
        "        with open(name.strip(), 'wb', buffering=0) as file: file.write(b'x' * 10000)\n"
        "        print('written', flush=True)\n"
        "    except OSError as error:\n"
        "        print(error.strerror, flush=True)\n"
    )
    try:
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None

            def attempt(name: str) -> str:
                assert process.stdin is not None
                assert process.stdout is not None
                print(tmp_path / name, file=process.stdin, flush=True)
                return process.stdout.readline().strip()

            assert attempt("before") == "written"
            disk.fill(process.pid)
            # A limit lets the first byte through: the whole must not be there.
            said = attempt("during")
            assert said != "written" or (tmp_path / "during").stat().st_size < 10_000
            disk.clear(process.pid)
            assert attempt("after") == "written"
    finally:
        disk.close()


async def test_disk_watch_measures_what_a_write_takes() -> None:
    watch = DiskWatch()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            while not watch.worst:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert 0 < watch.worst < 60


def test_a_blow_is_to_the_checkers_what_it_is() -> None:
    assert as_fault(Blow(1.0, "kill")) == Kill(1.0)
    assert as_fault(Blow(1.0, "freeze", 2.0)) == Pause(1.0, 2.0)
    assert as_fault(Blow(1.0, "disk_full", 2.0)) == DiskTrouble(1.0, 2.0, "full")
    assert as_fault(Blow(1.0, "clock", by=5.0)) is None


async def test_a_whole_scenario_against_the_real_process_holds() -> None:
    """The shortest there is: the key is refused, the caller hears an apology."""
    report = await run_scenario(load_scenarios()["model_refuses"])
    assert report.trouble == ()
    assert [call.judgement.violations for call in report.calls] == [[], []]
    assert {call.outcome for call in report.calls} == {"model_unavailable"}
    assert all(call.comforts for call in report.calls)
