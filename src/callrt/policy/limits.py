"""Bounds that an operator has no reason to set: each with the why of its number."""

from __future__ import annotations

CARRIER_PING_AFTER = 1.0
"""Seconds without media: carriers send 50 messages a second even in silence, so this is abnormal already."""

CARRIER_STALLED_AFTER = 4.0
"""Seconds without media after which a stream is dead though open: field advice is 3 to 5."""

HANGUP_GRACE = 3.0
"""Seconds after an ordered stop in which the carrier may still ask what comes next. It asks within one round
trip when the call goes on; a hang-up is followed by nothing."""

MARKS_OVERDUE_AFTER = 5.0
"""Seconds by which the oldest mark may be late while audio flows in: past that our messages are not obeyed."""

GENERATIONS_MAX = 50
"""Streams per call: past that something is wrong that a further stream does not mend."""

PAUSE_AFTER_GENERATION = 3
"""Streams that ended within seconds of each other before the next document waits a second first."""

LAST_WORDS_SECONDS = 4.0
"""For the apology or "connecting you" to be heard; under the 5 s that a call may outlive its limit."""

END_ACTION_GRACE = 2.0
"""Seconds for the carrier to ask what comes next after we closed its stream; then REST ends the call."""

UPLINK_HELD_MS = 30_000
"""Caller's audio kept while no model listens. The default patience with a failing model is 20 s."""

REPLAY_TOKENS = 6_000
"""History for a fresh session: text is cheap, but the first reply must not wait for it."""

MODEL_CONNECT_SECONDS = 5.0
"""TCP, TLS and upgrade. A peer that is slower than that is no help to a caller who waits."""

MODEL_BACKLOG_BYTES = 1_000_000
"""Caller's audio waiting for a slow model's socket: over a minute; then the session is replaced."""

CARRIER_BACKLOG_BYTES = 256_000
"""Agent's audio waiting for a slow carrier's socket; the lead is bounded far below it."""

CARRIER_MESSAGE_BYTES = 256 * 1024
MODEL_MESSAGE_BYTES = 16 * 1024 * 1024

CALLS_MAX = 1_000
"""Live calls per process; beyond it a new caller hears that all lines are busy."""

DIGITS_MAX = 200
"""Keys per call that reach the model and the journal: a card number, a code and a menu, many times over."""

BAD_INPUT_REPORTS = 1
"""Reports per call and source; everything is counted all the same."""
