"""The runner, the shrinker, the profiles, the scenarios, and the two commands around them."""

from __future__ import annotations

import json
import multiprocessing
import re
import signal
from pathlib import Path
from typing import Any

import attrs
import pytest

from callrt.cli.main import main
from callrt.testing.carrier import Drop
from callrt.testing.model_faults import Fault, Trigger
from callrt.testing.sim.case import Ask, Caller, Case, Kill, Pause
from callrt.testing.sim.profiles import load_profile, profile_names
from callrt.testing.sim.runner import run
from callrt.testing.sim.shrink import as_test, shrink, source

BIG = Case(
    seed=7,
    caller=Caller((Ask("hours"), Ask("price", 300)), digits="1"),
    faults=(
        Kill(3.0),
        Pause(4.0, 1.0),
        Drop("fin", seconds=2.0),
        Fault("close", Trigger(reply=2, audio_ms=500)),
    ),
    human=True,
    latency=0.03,
)


def test_shrink_finds_the_one_fault_that_matters() -> None:
    small = shrink(BIG, lambda case: any(isinstance(fault, Drop) for fault in case.faults))
    assert small.faults == (Drop("fin"),)
    assert (small.human, small.latency, small.caller.digits) == (False, 0.0, "")
    assert len(small.caller.asks) == 1


def test_shrink_keeps_what_two_faults_do_together() -> None:
    def both(case: Case) -> bool:
        return {Kill, Drop} <= {type(fault) for fault in case.faults}

    assert {type(fault) for fault in shrink(BIG, both).faults} == {Kill, Drop}


def test_shrink_is_bounded() -> None:
    tried: list[Case] = []

    def never(case: Case) -> bool:
        tried.append(case)
        return False

    assert shrink(BIG, never, tries=5) == BIG
    assert len(tried) == 5


def test_source_of_a_case_makes_the_same_case() -> None:
    names = {each.__name__: each for each in (Case, Caller, Ask, Kill, Pause, Drop, Fault, Trigger)}
    assert eval(source(BIG), names) == BIG
    assert source(Case()) == "Case()"


def test_printed_test_compiles() -> None:
    compile(as_test(BIG, "answers_are_whole", "callrt sim --seed 1 --call 2"), "found", "exec")


def test_result_does_not_depend_on_the_number_of_workers() -> None:
    alone, two = run(3, range(4), "carrier", workers=1), run(3, range(4), "carrier", workers=2)
    assert alone.digest == two.digest
    assert (alone.faults, alone.checks, alone.cells) == (two.faults, two.checks, two.cells)


def test_interrupt_is_heard_by_the_parent_alone_and_leaves_no_worker() -> None:
    heard: list[bool] = []

    def interrupt(done: int) -> None:
        for worker in multiprocessing.active_children():
            status = Path(f"/proc/{worker.pid}/status").read_text()
            [blocked] = re.findall(r"SigBlk:\t(\w+)", status)
            heard.append(not int(blocked, 16) >> (signal.SIGINT - 1) & 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(3, range(64), "none", workers=2, progress=interrupt)
    assert heard
    assert not any(heard)
    assert multiprocessing.active_children() == []
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize("profile", profile_names())
def test_sample_of_each_profile_holds(profile: str) -> None:
    summary = run(1, range(4), profile, workers=1)
    assert [failure.violations for failure in summary.failures] == []


def test_everything_includes_all_others() -> None:
    everything = load_profile("everything").weights
    for name in profile_names():
        assert set(load_profile(name).weights) <= set(everything)


def test_sim_prints_digest_faults_and_guarantees(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--seed", "3", "--calls", "2", "--faults", "carrier", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    for word in ("digest", "faults", "coverage", "guarantees", "all held"):
        assert word in out


def test_sim_as_json_says_the_same_twice(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[dict[str, Any]] = []
    for _ in range(2):
        assert (
            main(["sim", "--seed", "4", "--calls", "1", "--faults", "model", "--workers", "1", "--json"]) == 0
        )
        told.append(json.loads(capsys.readouterr().out))
    assert told[0]["digest"] == told[1]["digest"]
    assert len(told[0]["digest"]) == 64


def test_sim_of_an_unknown_profile_is_a_mistake_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--faults", "modle"]) == 2
    assert 'no fault profile "modle"' in capsys.readouterr().err


def test_sim_lists_its_profiles(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--list"]) == 0
    assert "everything" in capsys.readouterr().out


def test_sim_exits_1_with_seed_and_call_on_a_violation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import callrt.cli.sim as verb
    from callrt.testing.sim.checkers import Violation

    real = verb.run

    def broken(*args: Any, **options: Any) -> Any:
        summary = real(*args, **options)
        result = attrs.evolve(
            _result(), violations=(Violation("G1", "answers_are_whole", "a word is missing"),)
        )
        summary.failures.append(result)
        return summary

    monkeypatch.setattr(verb, "run", broken)
    assert main(["sim", "--seed", "3", "--calls", "1", "--faults", "none", "--workers", "1"]) == 1
    out = capsys.readouterr().out
    assert "VIOLATED    G1 in call 0: a word is missing" in out
    assert "callrt sim --seed 3 --call 0" in out


def _result() -> Any:
    from callrt.testing.sim.runner import CallResult

    return CallResult(0, "", 0.0, "", (), (), {}, ())
