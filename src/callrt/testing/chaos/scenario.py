"""Chaos scenarios as TOML: storm, then calm, against a real process and real sockets."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from callrt.errors import ConfigError
from callrt.testing.carrier import Drop
from callrt.testing.model_faults import Fault, Trigger
from callrt.testing.sim.case import BadMessages

Deed = Literal["kill", "stop", "freeze", "journal_locked", "disk_full", "clock"]


@attrs.frozen
class Blow:
    """What is done to the server's process, so many seconds into the scenario."""

    at: float
    do: Deed
    seconds: float = 0.3
    """Down, frozen, locked or full for so long."""
    by: float = 0.0
    """``clock``: seconds by which the wall clock jumps."""


@attrs.frozen
class Squeeze:
    """A slow network between callrt and one of its peers, from ``at`` seconds after the first byte of a connection."""

    peer: Literal["carrier", "model"]
    way: Literal["in", "out"]
    """As callrt sees it: ``out`` is a peer that reads slowly, ``in`` one that writes slowly."""
    at: float = 0.0
    seconds: float = 0.0
    bytes_per_second: float = 0.0
    """0: nothing moves; then everything that has waited arrives at once."""
    piece: int = 0
    """Bytes at a time; 0: as many as there are. Small ones tear every frame."""
    connection: int = 1
    """Of this call's sockets to that peer, from 1; 0: every one."""
    shut: bool = False
    """Nobody accepts: the connection is reset before its first byte."""


@attrs.frozen
class Scenario:
    name: str
    summary: str
    calls: int = 2
    bystanders: int = 0
    """The last so many calls, to which nothing is done but what strikes the whole process: they must be whole."""
    pause: float = 0.02
    """Seconds between one call and the next."""
    party: int = 25
    """Calls whose emulators share a process."""
    asks: tuple[str, ...] = ("hours",)
    faults: tuple[Fault, ...] = ()
    """Of each call's model."""
    drops: tuple[Drop, ...] = ()
    bad: tuple[BadMessages, ...] = ()
    """On each call's stream."""
    squeezes: tuple[Squeeze, ...] = ()
    blows: tuple[Blow, ...] = ()
    strangers: int = 0
    """So many at once who have no business here knock at the public port while the calls last."""
    die_every: float = 0.0
    """A socket of some call dies so often, the model's or the carrier's, for ``die_seconds``."""
    die_seconds: float = 0.0
    seed: int = 1
    """Which socket that is."""
    drain_seconds: float = 5.0
    human: bool = False
    stall_seconds: float = 2.0
    outcome: str = "caller_hung_up"
    """What every call has to end as; "any": the checkers' word is enough."""

    @property
    def disturbed(self) -> int:
        """How many calls something is done to."""
        return self.calls - self.bystanders


def scenario_folder() -> Path:
    """``chaos/scenarios`` of the checkout that runs, or of the current folder. Raises ConfigError."""
    for root in (Path.cwd(), *Path(__file__).resolve().parents):
        folder = root / "chaos" / "scenarios"
        if folder.is_dir():
            return folder
    raise ConfigError("there is no folder chaos/scenarios here; run callrt chaos in a checkout of callrt")


def load_scenarios() -> dict[str, Scenario]:
    """All of them by name. Raises ConfigError, one sentence."""
    return {path.stem: load_scenario(path) for path in sorted(scenario_folder().glob("*.toml"))}


LISTS = {"fault": "faults", "drop": "drops", "bad": "bad", "squeeze": "squeezes", "process": "blows"}


def load_scenario(path: Path) -> Scenario:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        given: dict[str, Any] = {name: value for name, value in table.items() if name not in LISTS}
        if "asks" in given:
            given["asks"] = tuple(given["asks"])
        for key, name in LISTS.items():
            given[name] = tuple(_MAKERS[key](entry) for entry in table.get(key, ()))
        scenario = Scenario(name=path.stem, **given)
        if not 0 <= scenario.bystanders <= scenario.calls:
            raise ValueError("there are at most as many bystanders as calls")
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    return scenario


def _fault(entry: Mapping[str, Any]) -> Fault:
    return Fault(**{**entry, "at": Trigger(**entry.get("at", {}))})


_MAKERS: dict[str, Any] = {
    "fault": _fault,
    "drop": lambda entry: Drop(**entry),
    "bad": lambda entry: BadMessages(**entry),
    "squeeze": lambda entry: Squeeze(**entry),
    "process": lambda entry: Blow(**entry),
}
