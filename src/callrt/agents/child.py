"""``python -m callrt.agents.child``: run one killable tool and end. See ``callrt.actors.tool_process``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from callrt.actors.tool_process import Answer, Order
from callrt.actors.tool_runner import Job, Outcome, Progress, failure, in_this_thread
from callrt.agents.load import load_tools
from callrt.protocol.tools import CallFacts


def main() -> None:
    # The tool may print: its stdout becomes our stderr; the answer goes out on a descriptor of our own.
    answers = os.dup(1)
    os.dup2(2, 1)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    outcome = _carry_out(order)
    answer = Answer(outcome.output, outcome.error, outcome.nothing, outcome.where)
    with os.fdopen(answers, "wb") as stream:
        stream.write(msgspec.json.encode(answer))
    os._exit(0)  # threads that the tool left behind do not hold the answer up


def _carry_out(order: Order) -> Outcome:
    try:
        (tool,) = load_tools([order.path], Path(order.folder))
    except Exception as error:
        return failure(error)
    call = CallFacts(order.call_sid, order.caller, order.agent, order.called)
    return in_this_thread(Job.of(tool, order.arguments, call, order.key), Progress())


if __name__ == "__main__":
    main()
