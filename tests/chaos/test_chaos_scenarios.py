"""Scenarios are read whole or refused with a sentence; the command lists them and names the nearest."""

from __future__ import annotations

from pathlib import Path

import pytest

from callrt.cli.main import main
from callrt.errors import ConfigError
from callrt.testing.carrier import Drop
from callrt.testing.chaos.messages import shares
from callrt.testing.chaos.scenario import Blow, Squeeze, load_scenario, load_scenarios, scenario_folder
from callrt.testing.model_faults import Fault, Trigger
from callrt.testing.sim.case import BadMessages
from callrt.testing.sim.cast import EXCHANGES
from callrt.testing.sim.stage import BAD

WHOLE = """\
summary = "Everything at once."
calls = 4
bystanders = 1
asks = ["hours", "price"]
die_every = 0.5
die_seconds = 2.0
strangers = 3
[[fault]]
kind = "close"
at = { connection = 1 }
[[drop]]
how = "fin"
heard_ms = 100
[[bad]]
at = 1.0
count = 2
what = "binary"
[[squeeze]]
peer = "carrier"
way = "out"
at = 1.0
seconds = 2.0
[[process]]
do = "kill"
at = 3.0
"""


def test_a_scenario_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "all_of_it.toml"
    path.write_text(WHOLE, encoding="utf-8")
    scenario = load_scenario(path)
    assert (scenario.name, scenario.calls, scenario.disturbed, scenario.strangers) == ("all_of_it", 4, 3, 3)
    assert scenario.faults == (Fault("close", Trigger(connection=1)),)
    assert scenario.drops == (Drop("fin", heard_ms=100),)
    assert scenario.bad == (BadMessages(1.0, 2, "binary"),)
    assert scenario.squeezes == (Squeeze("carrier", "out", 1.0, 2.0),)
    assert scenario.blows == (Blow(3.0, "kill"),)


@pytest.mark.parametrize(
    "text",
    [
        "calls = 2",
        'summary = "x"\nbystanders = 9',
        'summary = "x"\nunheard_of = 1',
        'summary = "x"\n[[process]]\nat = 1.0',
        "summary =",
    ],
)
def test_a_scenario_that_is_none_is_refused_with_its_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"odd\.toml"):
        load_scenario(path)


def test_every_scenario_of_the_repository_can_be_played() -> None:
    scenarios = load_scenarios()
    assert len(scenarios) >= 28
    for scenario in scenarios.values():
        assert scenario.summary.endswith(".")
        assert set(scenario.asks) <= set(EXCHANGES)
        assert all(bad.what in BAD for bad in scenario.bad)
        assert scenario.outcome in ("caller_hung_up", "completed", "model_unavailable")
    assert load_scenario(scenario_folder().parent / "soak.toml").calls > 0


def test_parties_share_all_calls_evenly() -> None:
    parties = shares(100, 30)
    assert sorted(number for party in parties for number in party) == list(range(100))
    assert {len(party) for party in parties} == {25}
    assert list(shares(2, 25)) == [(0, 1)]


def test_chaos_lists_its_scenarios(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chaos", "--list"]) == 0
    out = capsys.readouterr().out
    for name in load_scenarios():
        assert name in out


def test_chaos_names_the_nearest_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chaos", "--scenario", "proces_killed"]) == 2
    assert 'did you mean "process_killed"?' in capsys.readouterr().err
