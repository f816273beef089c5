"""What can go wrong, by name, and how a provider's signal becomes a name.

``policy/faults.py`` says what the caller hears for each kind in each turn state; the runbook has a heading
for each. Sources of the rows: the OpenAI Realtime reference and field reports collected for that dialect.
"""

from __future__ import annotations

import enum


class FaultKind(enum.StrEnum):
    MODEL_LOST = "model_lost"
    """The model's socket ended, or could not be opened, for a transient reason."""
    MODEL_OVERLOADED = "model_overloaded"
    """HTTP 429 or 5xx at the upgrade."""
    MODEL_REFUSED = "model_refused"
    """A permanent refusal: bad key, bad address, wrong dialect. Never retried."""
    MODEL_ACCOUNT = "model_account"
    """Quota, billing or a closed account: permanent, and for every call of this account."""
    MODEL_EXPIRED = "model_expired"
    """The session reached the provider's maximum duration."""
    MODEL_STALLED = "model_stalled"
    """A reply is owed and nothing comes."""
    MODEL_POISONED = "model_poisoned"
    """Replies of this session keep failing: the session must be replaced."""
    MODEL_REJECTS_HISTORY = "model_rejects_history"
    """The provider chokes on the history (close 1007): never replay the same one."""
    REPLY_FAILED = "reply_failed"
    """One reply failed for an unknown reason: worth one more try in this session."""
    REPLY_RATE_LIMITED = "reply_rate_limited"
    """One reply was refused by a rate limit: try the same reply again a little later."""
    REQUEST_REJECTED = "request_rejected"
    """An ``error`` about one request of ours; the session goes on."""
    CARRIER_LOST = "carrier_lost"
    """The carrier's stream ended without an ordered stop."""
    CARRIER_STALLED = "carrier_stalled"
    """The carrier's stream is open and dead: nothing arrives."""
    CARRIER_STOPPED = "carrier_stopped"
    """An ordered stop: hang-up or redirect, the carrier does not say which."""
    ACTOR_CRASHED = "actor_crashed"
    """A bug of ours in one actor."""
    TOOL_FAILED = "tool_failed"
    TOOL_TIMED_OUT = "tool_timed_out"
    JOURNAL_UNAVAILABLE = "journal_unavailable"
    PROCESS_DIED = "process_died"
    """This process is the successor of one that died with the call alive."""
    BAD_INPUT = "bad_input"


PERMANENT = (FaultKind.MODEL_REFUSED, FaultKind.MODEL_ACCOUNT)

ACCOUNT_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_hard_limit_reached",
        "account_deactivated",
        "invalid_api_key",
    }
)
RATE_CODES = frozenset({"rate_limit_exceeded", "inference_rate_limit_exceeded"})
HARMLESS_CODES = frozenset(
    {
        "response_cancel_not_active",
        "conversation_already_has_active_response",
        "input_audio_buffer_commit_empty",
        "item_create_duplicate_item_id",
    }
)
"""Routine races between us and the server: counted, otherwise nothing."""


class UnusableKey(ValueError):
    """An API key that no header can carry: permanent, and known before anybody is asked."""


def of_close(code: int | None, reason: str = "") -> FaultKind:
    """A close of the model's socket. ``None`` is a connection that ended without a close."""
    if code in (3000, 4000):
        return FaultKind.MODEL_ACCOUNT if _account_wide(reason) else FaultKind.MODEL_REFUSED
    if code == 1007:
        return FaultKind.MODEL_REJECTS_HISTORY
    if code == 1001 and "maximum duration" in reason:
        return FaultKind.MODEL_EXPIRED
    return FaultKind.MODEL_LOST


def of_upgrade(status: int) -> FaultKind:
    """A refused upgrade, by its HTTP status."""
    if status == 429 or status >= 500:
        return FaultKind.MODEL_OVERLOADED
    if 400 <= status < 500:
        return FaultKind.MODEL_REFUSED
    return FaultKind.MODEL_LOST


def of_error(error_type: str, code: str) -> FaultKind | None:
    """An ``error`` message. None: routine, nothing to do. The provider puts the word into either field."""
    if ACCOUNT_CODES & {error_type, code}:
        return FaultKind.MODEL_ACCOUNT
    if code == "session_expired" or error_type == "session_expired":
        return FaultKind.MODEL_EXPIRED
    if code in ("beta_api_shape_disabled", "invalid_intent"):
        return FaultKind.MODEL_REFUSED
    if code in HARMLESS_CODES:
        return None
    return FaultKind.REQUEST_REJECTED


def ends_session(kind: FaultKind | None) -> bool:
    """Does an ``error`` of this kind mean that the session cannot go on?"""
    return kind in (FaultKind.MODEL_ACCOUNT, FaultKind.MODEL_REFUSED, FaultKind.MODEL_EXPIRED)


def of_failed_reply(error_type: str, code: str) -> FaultKind:
    """A reply that ended as ``failed``."""
    if ACCOUNT_CODES & {error_type, code}:
        return FaultKind.MODEL_ACCOUNT
    if RATE_CODES & {error_type, code}:
        return FaultKind.REPLY_RATE_LIMITED
    return FaultKind.REPLY_FAILED


def _account_wide(reason: str) -> bool:
    return any(code in reason for code in sorted(ACCOUNT_CODES))
