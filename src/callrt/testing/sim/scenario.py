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
from callrt.testing.sim.case import BadMessages, Pause


@attrs.frozen
class Blow:
    """What is done to the server's process, so many seconds into the scenario."""

    at: float
    do: Literal["kill", "stop", "freeze", "disk_full"]
    seconds: float = 0.3
    """Down, frozen, or full for so long."""


@attrs.frozen
class Scenario:
    name: str
    summary: str
    calls: int = 2
    asks: tuple[str, ...] = ("hours",)
    faults: tuple[Fault, ...] = ()
    """Of each call's model."""
    drops: tuple[Drop, ...] = ()
    others: tuple[BadMessages | Pause, ...] = ()
    """On each call's stream."""
    blows: tuple[Blow, ...] = ()
    die_every: float = 0.0
    """A socket of some call dies so often, model's and carrier's in turn, for ``die_seconds``."""
    die_seconds: float = 0.0
    human: bool = False
    stall_seconds: float = 2.0
    outcome: str = "caller_hung_up"
    """What every call has to end as."""


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


def load_scenario(path: Path) -> Scenario:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        calls = int(table.get("calls", 2))
        return Scenario(
            name=path.stem,
            summary=table["summary"],
            calls=calls,
            asks=tuple(table.get("asks", ["hours"])),
            faults=tuple(_fault(entry) for entry in table.get("fault", [])),
            drops=tuple(Drop(**entry) for entry in table.get("drop", [])),
            others=(
                *(BadMessages(**entry) for entry in table.get("bad", [])),
                *(Pause(**entry) for entry in table.get("pause", [])),
            ),
            blows=tuple(Blow(**entry) for entry in table.get("process", [])),
            **{
                name: table[name]
                for name in ("die_every", "die_seconds", "human", "stall_seconds", "outcome")
                if name in table
            },
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error


def _fault(entry: Mapping[str, Any]) -> Fault:
    return Fault(**{**entry, "at": Trigger(**entry.get("at", {}))})
