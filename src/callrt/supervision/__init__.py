"""Supervision on Trio with OTP's semantics: actors that are kept alive, and told the truth about.

Knows nothing of phones. Start with docs/supervision.md.
"""

from __future__ import annotations

from .admin import ChildCounts, ChildHandle, ChildInfo
from .backoff import Backoff
from .breaker import BreakerChanged, BreakerOpen, Breakers, BreakerState, CircuitBreaker
from .context import Context
from .dynamic import DynamicSupervisor
from .errors import (
    AdminError,
    AlreadyPresent,
    AlreadyStarted,
    AskError,
    AskTimeout,
    ChildRestarting,
    ChildRunning,
    ChildUnresponsive,
    Decline,
    Escalation,
    Fenced,
    GiveUp,
    InvalidOperation,
    MailboxFull,
    NotFound,
    OrderlyStop,
    SpecError,
    StartFailed,
    SupervisionError,
    SupervisorDown,
    TargetDown,
    TooManyChildren,
)
from .exits import ExitKind, Reason
from .mailbox import Down, MailboxStatistics
from .refs import ActorRef, Monitor, ReplyTo
from .registry import NameTaken, Registry
from .reports import (
    AutoShutdown,
    DeadLetter,
    Declined,
    Escalated,
    Exited,
    Hook,
    Report,
    Reports,
    Restarting,
    ShutdownError,
    Started,
    StartFailure,
    Unresponsive,
)
from .snapshot import ChildSnapshot, SupervisorSnapshot, snapshot
from .spec import BackoffDefeatsWindow, ChildSpec, MailboxPolicy
from .supervisor import Supervisor
from .waiting import Bell
from .watchdog import Watchdog

__all__ = [
    "ActorRef",
    "AdminError",
    "AlreadyPresent",
    "AlreadyStarted",
    "AskError",
    "AskTimeout",
    "AutoShutdown",
    "Backoff",
    "BackoffDefeatsWindow",
    "Bell",
    "BreakerChanged",
    "BreakerOpen",
    "BreakerState",
    "Breakers",
    "ChildCounts",
    "ChildHandle",
    "ChildInfo",
    "ChildRestarting",
    "ChildRunning",
    "ChildSnapshot",
    "ChildSpec",
    "ChildUnresponsive",
    "CircuitBreaker",
    "Context",
    "DeadLetter",
    "Decline",
    "Declined",
    "Down",
    "DynamicSupervisor",
    "Escalated",
    "Escalation",
    "ExitKind",
    "Exited",
    "Fenced",
    "GiveUp",
    "Hook",
    "InvalidOperation",
    "MailboxFull",
    "MailboxPolicy",
    "MailboxStatistics",
    "Monitor",
    "NameTaken",
    "NotFound",
    "OrderlyStop",
    "Reason",
    "Registry",
    "ReplyTo",
    "Report",
    "Reports",
    "Restarting",
    "ShutdownError",
    "SpecError",
    "StartFailed",
    "StartFailure",
    "Started",
    "SupervisionError",
    "Supervisor",
    "SupervisorDown",
    "SupervisorSnapshot",
    "TargetDown",
    "TooManyChildren",
    "Unresponsive",
    "Watchdog",
    "snapshot",
]
