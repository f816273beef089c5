"""Supervision on Trio with OTP's semantics: actors that are kept alive, and told the truth about.

Knows nothing of phones. Start with docs/supervision.md.
"""

from __future__ import annotations

from .admin import ChildCounts, ChildHandle, ChildInfo
from .backoff import Backoff
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
from .spec import BackoffDefeatsWindow, ChildSpec, MailboxPolicy
from .supervisor import Supervisor

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
    "ChildCounts",
    "ChildHandle",
    "ChildInfo",
    "ChildRestarting",
    "ChildRunning",
    "ChildSpec",
    "ChildUnresponsive",
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
    "NotFound",
    "OrderlyStop",
    "Reason",
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
    "TargetDown",
    "TooManyChildren",
    "Unresponsive",
]
