"""An emulated telephone carrier, strict where the real one is: what it rejects, this one rejects.

A :class:`Carrier` is one account. It places calls against an app (signed webhooks, a media socket per
stream, a 20 ms clock), plays what the app sends to a scripted caller, and offers the REST interface. Over
real sockets::

    async with open_carrier("http://127.0.0.1:8080/twilio/voice", auth_token=token) as carrier:
        call = carrier.place(script)
        await call.run()
        call.tape.write_wav(Path("call.wav"))

(see ``carrier_net.py``), or with nothing but memory and virtual time, given the two functions of the seam:
``request`` for HTTP and ``connect`` for media sockets.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from callrt.testing.carrier_call import PhoneCall
from callrt.testing.carrier_caller import CallOver, Line, Script, say_nothing
from callrt.testing.carrier_media import Connect
from callrt.testing.carrier_plan import (
    Alert,
    CallPlan,
    Drop,
    Habits,
    Human,
    KeepTime,
    Speak,
    WebhookRecord,
    by_the_clock,
)
from callrt.testing.carrier_rest import Answer, RestInterface
from callrt.testing.carrier_stream import StreamBehaviour, WireEvent
from callrt.testing.carrier_webhooks import Request
from callrt.testing.speech import beeps

__all__ = [
    "Alert",
    "CallOver",
    "CallPlan",
    "Carrier",
    "Drop",
    "Habits",
    "Human",
    "Line",
    "PhoneCall",
    "Script",
    "StreamBehaviour",
    "WebhookRecord",
    "WireEvent",
    "say_nothing",
]


class Carrier:
    """One account: its secret, its calls, its REST interface. Identities come from ``seed``."""

    def __init__(
        self,
        voice_url: str,
        request: Request,
        connect: Connect,
        *,
        account_sid: str = "AC" + "0" * 31 + "1",
        auth_token: str = "0123456789abcdef0123456789abcdef",
        speak: Speak | None = None,
        seed: int | str = 0,
        keep_time: KeepTime = by_the_clock,
    ) -> None:
        """
        :param voice_url: the app's voice webhook, e.g. ``http://127.0.0.1:8080/twilio/voice``.
        :param speak: the voice of ``<Say>``; beeps if None.
        :param keep_time: the clock of its calls; a world's network has one that costs nothing.
        """
        self.voice_url = voice_url
        self.account_sid = account_sid
        self.calls: dict[str, PhoneCall] = {}
        self.rest = RestInterface(account_sid, auth_token, lambda sid: self.calls.get(sid))
        self._auth_token = auth_token
        self._request = request
        self._connect = connect
        self._speak = speak or (lambda text, language: beeps(text))
        self._rng = random.Random(seed)
        self._keep_time = keep_time

    def place(
        self,
        script: Script = say_nothing,
        *,
        drops: tuple[Drop, ...] = (),
        habits: Habits | None = None,
        behaviour: StreamBehaviour | None = None,
        humans: Mapping[str, Human] | None = None,
        anyone: Human | None = None,
        from_number: str = "+15550100001",
        to_number: str = "+15550100002",
        status_url: str | None = None,
    ) -> PhoneCall:
        """A call that :meth:`PhoneCall.run` then carries from the first webhook to its end.

        :param drops: when its streams are lost.
        :param humans: who is at which number; at any other is ``anyone``, who by default answers after two
            seconds and talks for three.
        :param status_url: where the call's status callbacks go; none are sent if None.
        """
        plan = CallPlan(
            call_sid=f"CA{self._rng.getrandbits(128):032x}",
            account_sid=self.account_sid,
            auth_token=self._auth_token,
            voice_url=self.voice_url,
            from_number=from_number,
            to_number=to_number,
            script=script,
            drops=drops,
            habits=habits or Habits(),
            behaviour=behaviour or StreamBehaviour(),
            humans=humans or {},
            anyone=anyone or Human(),
            status_url=status_url,
        )
        rng = random.Random(self._rng.getrandbits(64))
        call = PhoneCall(plan, self._request, self._connect, self._speak, rng, self._keep_time)
        self.calls[call.call_sid] = call
        return call

    def handle(self, method: str, path: str, form: Mapping[str, str], authorization: str | None) -> Answer:
        """One request to the REST interface: status and JSON body. Its effects are there when it
        returns."""
        return self.rest.handle(method, path, form, authorization)

    def forget(self, call: PhoneCall) -> None:
        """Drop a call that is over; the REST interface answers 20404 from now on."""
        self.calls.pop(call.call_sid, None)
