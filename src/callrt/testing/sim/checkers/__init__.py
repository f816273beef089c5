"""The guarantees of the contract, judged on a history alone: what was heard, told, journalled and done.

Written against the guarantee, not against the code: no checker asks callrt what it decided. Each has a test that
plants a violation and sees it found.
"""

from __future__ import annotations

from callrt.testing.sim.checkers import (
    barge_in,
    bounds,
    drain,
    endings,
    model,
    privacy,
    speech,
    streams,
    tools,
)
from callrt.testing.sim.checkers.verdicts import Judgement, Violation, judge_all
from callrt.testing.sim.history import History

__all__ = ["CHECKERS", "Judgement", "Violation", "judge"]

CHECKERS = (
    speech.answers_are_whole,
    speech.turns_are_not_lost,
    speech.storm_is_survived,
    model.comfort_is_in_time,
    model.wait_is_bridged,
    model.told_is_heard,
    model.permanent_is_not_retried,
    model.hand_over_has_a_reason,
    streams.session_stays,
    streams.one_voice,
    streams.leases_grow,
    barge_in.clear_is_at_once,
    barge_in.truncation_is_true,
    tools.effects_once,
    tools.intent_before_effect,
    tools.one_output,
    tools.results_are_told,
    endings.ends_with_outcome,
    drain.drain_declines_in_words,
    drain.drain_lets_calls_go_on,
    drain.drain_ends_politely,
    drain.drained_process_goes,
    endings.nothing_is_left,
    bounds.lead_is_bounded,
    bounds.others_notice_nothing,
    bounds.peers_understand_us,
    bounds.bad_input_is_reported_once,
    privacy.secrets_stay_in,
)


def judge(history: History) -> Judgement:
    """All checkers. A history that cannot be judged is itself a violation."""
    return judge_all(history, CHECKERS)
