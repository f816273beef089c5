"""Fault profiles: which faults a storm is made of, as TOML beside this file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources

import attrs

from callrt.errors import ConfigError


@attrs.frozen
class Profile:
    name: str
    summary: str
    least: int
    """Faults in a storm, at least and at most."""
    most: int
    weights: Mapping[str, int]
    """Fault, as :func:`~callrt.testing.sim.case.name_of` calls it, to how often it is drawn."""
    aims: bool = False
    """Every other call is aimed at a cell of the fault policy."""


def profile_names() -> list[str]:
    return sorted(
        entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml")
    )


def load_profile(name: str) -> Profile:
    """Raises ConfigError for one that does not exist."""
    names = profile_names()
    if name not in names:
        raise ConfigError(f'there is no fault profile "{name}"; there are {", ".join(names)}')
    table = tomllib.loads(_folder().joinpath(f"{name}.toml").read_text("utf-8"))
    weights = dict(table.get("weights", {}))
    for included in table.get("include", []):
        for fault, weight in load_profile(included).weights.items():
            weights.setdefault(fault, weight)
    return Profile(
        name,
        table["summary"],
        table["faults"]["least"],
        table["faults"]["most"],
        weights,
        table.get("aims", False),
    )


def _folder() -> resources.abc.Traversable:
    return resources.files(__package__) / "profiles"
