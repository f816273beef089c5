"""Verdicts: held, violated, or not exercised (unknown), per guarantee."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from callrt.testing.carrier import Drop
from callrt.testing.model_faults import Fault
from callrt.testing.sim import case as sim
from callrt.testing.sim.history import History, Verdict

GUARANTEES = tuple(f"G{n}" for n in range(1, 13))


@attrs.frozen
class Violation:
    guarantee: str
    checker: str
    what: str


@attrs.frozen
class Checked:
    """Something of this guarantee was looked at and was in order."""

    guarantee: str


Finding = Checked | Violation
Checker = Callable[[History], Iterator[Finding]]


@attrs.frozen
class Judgement:
    verdicts: Mapping[str, Verdict]
    violations: Sequence[Violation]
    checks: Mapping[str, int]
    """Guarantee to how many things were looked at."""

    @property
    def ok(self) -> bool:
        return not self.violations


def judge_all(history: History, checkers: Sequence[Checker]) -> Judgement:
    checks = dict.fromkeys(GUARANTEES, 0)
    violations: list[Violation] = []
    for checker in checkers:
        for finding in checker(history):
            checks[finding.guarantee] += 1
            if isinstance(finding, Violation):
                violations.append(finding)
    if history.stuck:
        violations.append(Violation("G8", "stuck", history.stuck))
    bad = {violation.guarantee for violation in violations}
    verdicts: dict[str, Verdict] = {}
    for guarantee in GUARANTEES:
        exercised = "held" if checks[guarantee] else "not exercised"
        verdicts[guarantee] = "violated" if guarantee in bad else exercised  # type: ignore[assignment]
    return Judgement(verdicts, violations, checks)


# -- what kind of storm it was --------------------------------------------------------------------------------

PROCESS = (sim.Kill, sim.Takeover, sim.Drain, sim.Crash)


def family(history: History) -> str:
    """The guarantee that a broken conversation is booked under: the gravest fault that struck."""
    if history.faults(*PROCESS):
        return "G3"
    if history.faults(Drop, sim.Repeat, sim.Pause):
        return "G2"
    if history.faults(sim.ToolTrouble):
        return "G5"
    return "G1"


SERIOUS = ("close", "abort", "expire", "freeze", "stall", "refuse", "poison", "fail", "drop", "no_reply")
"""Faults that can cost a session."""
SESSION_ENDS = ("close", "abort", "expire")
ACCOUNT = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "billing_hard_limit_reached",
    "account_deactivated",
)


def is_permanent(fault: Fault) -> bool:
    """A failure that trying again does not help, by the contract: bad key, no quota, refused for good."""
    if fault.kind == "refuse":
        return 400 <= fault.status < 500 and fault.status != 429
    if fault.kind == "error_then_close":
        return True
    if fault.kind == "close":
        return fault.code in (3000, 4000)
    return fault.kind in ("error", "fail", "poison") and fault.error_code in (*ACCOUNT, "invalid_api_key")


def ends_session(fault: Fault) -> bool:
    return fault.kind in SESSION_ENDS or is_permanent(fault)
