"""What the carrier tells the app beside the documents: how the call and its streams are doing."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from callrt.testing.carrier_plan import CallPlan
from callrt.testing.carrier_stream import MediaStream
from callrt.testing.carrier_webhooks import Webhooks
from callrt.testing.twiml_player import Connect


def call_form(plan: CallPlan, status: str, extra: Mapping[str, str]) -> dict[str, str]:
    """The parameters of every request about a call, and more."""
    return {
        "CallSid": plan.call_sid,
        "AccountSid": plan.account_sid,
        "From": plan.from_number,
        "To": plan.to_number,
        "Caller": plan.from_number,
        "Called": plan.to_number,
        "CallStatus": status,
        "ApiVersion": "2010-04-01",
        "Direction": "inbound",
        **extra,
    }


class Callbacks:
    """Each is a request of its own in ``nursery``: nothing waits for them, and their order is not
    promised."""

    def __init__(self, plan: CallPlan, webhooks: Webhooks, nursery: trio.Nursery) -> None:
        self._plan = plan
        self._webhooks = webhooks
        self._nursery = nursery
        self._count = 0
        self._held_back: list[dict[str, str]] = []

    def call(self, status: str, *, final: bool = False, seconds: float = 0) -> None:
        """The call's status has changed. If this carrier delivers out of order, the final one goes
        first."""
        if self._plan.status_url is None:
            return
        facts = {"SequenceNumber": str(self._count), "CallbackSource": "call-progress-events"}
        self._count += 1
        if final:
            facts["CallDuration"] = str(round(seconds))
        form = call_form(self._plan, status, facts)
        if self._plan.habits.status_out_of_order and not final:
            self._held_back.append(form)
        else:
            self._nursery.start_soon(self._send, self._plan.status_url, [form, *self._held_back])

    def stream(self, verb: Connect, media: MediaStream, event: str, error: str = "") -> None:
        if verb.status_callback is None:
            return
        facts = {
            "AccountSid": self._plan.account_sid,
            "CallSid": self._plan.call_sid,
            "StreamSid": media.stream_sid,
            "StreamName": verb.name or media.stream_sid,
            "StreamEvent": event,
        }
        if error:
            facts["StreamError"] = error
        self._nursery.start_soon(
            self._webhooks.notify, "stream-status", verb.status_callback, verb.status_method, facts
        )

    async def _send(self, url: str, forms: list[dict[str, str]]) -> None:
        for form in forms:
            await self._webhooks.notify("status", url, "POST", form)
