"""One telephone call at the emulated carrier: its clock, its documents, its streams, its end.

Three things go on at once. The *clock* moves 20 ms of sound each way per tick, on absolute deadlines. The
*document* is executed verb by verb; a redirect through the REST interface replaces it. The *caller* follows
a script.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import trio

from callrt.testing import twiml_player as markup
from callrt.testing.carrier_callbacks import Callbacks, call_form
from callrt.testing.carrier_caller import CallOver, Line
from callrt.testing.carrier_dial import Dialler
from callrt.testing.carrier_ear import Ear
from callrt.testing.carrier_media import Connect, LiveStream
from callrt.testing.carrier_plan import (
    Alert,
    CallPlan,
    DialRecord,
    Drop,
    DropKind,
    KeepTime,
    Speak,
    WebhookRecord,
    by_the_clock,
)
from callrt.testing.carrier_signing import sign
from callrt.testing.carrier_steps import APPLICATION_ERROR, GOODBYE_SECONDS, EndReason, Fetch, Play, Step
from callrt.testing.carrier_stream import TICK_SECONDS, MediaStream, WireEvent
from callrt.testing.carrier_tape import Tape
from callrt.testing.carrier_webhooks import DocumentUnavailable, Request, Webhooks
from callrt.wire.websocket import ConnectFailed, UpgradeRefused


class PhoneCall:
    """Placed and carried to its end by :meth:`run`; what happened can be read at any time."""

    def __init__(
        self,
        plan: CallPlan,
        request: Request,
        connect: Connect,
        speak: Speak,
        rng: random.Random,
        keep_time: KeepTime = by_the_clock,
    ) -> None:
        self.plan = plan
        self.status = "queued"
        self.end_reason: EndReason = ""
        self.tape = Tape()
        self.line = Line(self._press, self.hang_up)
        self.streams: list[LiveStream] = []
        self.wire: list[WireEvent] = []
        self.alerts: list[Alert] = []
        self.requests: list[WebhookRecord] = []
        self.dials: list[DialRecord] = []
        self.carrier_said: list[str] = []
        """The texts of ``<Say>`` that the caller heard, in order."""
        self.answered = trio.Event()
        self.over = trio.Event()
        self.on_event: Callable[[WireEvent | Alert | WebhookRecord], None] = lambda event: None
        """Told of everything as it happens; for a live print-out."""
        self._connect = connect
        self._speak = speak
        self._rng = rng
        self._metronome = keep_time
        self._webhooks = Webhooks(request, plan.auth_token, plan.habits, self._requested)
        self._drops = list(plan.drops)
        self._stream: LiveStream | None = None
        self._ear = Ear()
        self._next: Step | None = None
        self._keep_stream = False
        self._document = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._frames = 0
        self._callbacks: Callbacks | None = None

    @property
    def call_sid(self) -> str:
        return self.plan.call_sid

    @property
    def from_number(self) -> str:
        return self.plan.from_number

    @property
    def to_number(self) -> str:
        return self.plan.to_number

    @property
    def stream(self) -> LiveStream | None:
        """The stream that is being played, if any."""
        return self._stream if self._stream is not None and self._stream.is_live else None

    # -- what others may do to the call ----------------------------------------------------------------

    def hang_up(self) -> None:
        """The caller puts the receiver down. Idempotent, no checkpoint."""
        self._end("caller_hung_up", "completed")

    def complete(self) -> None:
        """The app ends the call through the REST interface."""
        self._end("app_hung_up", "completed")

    def redirect(self, *, url: str | None = None, method: str = "POST", twiml: str | None = None) -> None:
        """The app replaces the document: an open stream is stopped. No checkpoint."""
        if self.over.is_set():
            return
        if twiml is not None:
            try:
                self._go_to(Play(markup.parse_twiml(twiml, self.plan.voice_url), self.plan.voice_url))
            except markup.TwimlError as error:
                self._alert(error.code, str(error))
                self._go_to(Play((markup.Say(APPLICATION_ERROR, "en-US"),), self.plan.voice_url))
        elif url is not None:
            self._go_to(Fetch("redirect", url, method))

    def repeat_voice_webhook(self) -> None:
        """The carrier asks for the first document once more in mid-call and executes it *beside* the open
        stream: that one stays open until the app closes it, and is not played any more. No checkpoint."""
        self._keep_stream = True
        self._go_to(Fetch("voice", self.plan.voice_url, "POST"))

    def drop(self, how: DropKind = "rst", *, notice_seconds: float | None = None) -> None:
        """Lose the media stream now; see :class:`Drop`. No effect without a stream."""
        stream = self.stream
        if stream is None:
            return
        stream.drop(how)
        if notice_seconds is not None and self._nursery is not None:
            self._nursery.start_soon(self._notice, stream, notice_seconds)

    def plan_drop(self, drop: Drop) -> None:
        """One more drop than the call was placed with, for a point that only the call itself could tell."""
        self._drops.append(drop)

    async def _notice(self, stream: LiveStream, seconds: float) -> None:
        await trio.sleep(seconds)
        stream.notice()

    def _go_to(self, step: Step) -> None:
        self._next = step
        self._document.cancel()

    def _press(self, digit: str) -> None:
        stream = self.stream
        if stream is not None:
            stream.send([stream.media.press(digit, trio.current_time())])

    def _end(self, reason: EndReason, status: str) -> None:
        if self.over.is_set():
            return
        self.end_reason = reason
        self.status = status
        self.over.set()
        self._document.cancel()

    # -- the call --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Place the call and carry it to its end. If cancelled: the sockets are dropped and nobody is
        told."""
        try:
            async with trio.open_nursery() as callbacks:
                self._callbacks = Callbacks(self.plan, self._webhooks, callbacks)
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    await self._live()
                    nursery.cancel_scope.cancel()
                callbacks.cancel_scope.deadline = trio.current_time() + GOODBYE_SECONDS
        finally:
            self.over.set()
            self.line.end()

    async def _live(self) -> None:
        self.status = "ringing"
        with trio.move_on_after(self.plan.habits.call_seconds_max) as limit:
            await self._execute()
        if limit.cancelled_caught:
            self._end("too_long", "completed")
        self._end("app_hung_up", "completed")
        self.line.end()
        for stream in self.streams:
            stream.release()
        self._tell().call(self.status, final=True, seconds=self.tape.seconds)
        with trio.move_on_after(GOODBYE_SECONDS):
            for stream in self.streams:
                await stream.closed.wait()

    async def _execute(self) -> None:
        step: Step | None = Fetch("voice", self.plan.voice_url, "POST")
        while step is not None and not self.over.is_set():
            with trio.CancelScope() as self._document:
                step = await self._perform(step)
            if self._next is not None:
                step, self._next = self._next, None
            elif self._document.cancelled_caught:
                break

    async def _perform(self, step: Step) -> Step | None:
        if isinstance(step, Fetch):
            try:
                verbs = await self._webhooks.fetch(step.kind, step.url, step.method, self._form(step.extra))
            except DocumentUnavailable as error:
                self._alert(error.code, str(error))
                self._answer()
                await self._ear.play(self._speak(APPLICATION_ERROR, "en-US"), "say")
                self._end("application_error", "completed")
                return None
            step = Play(verbs, step.url)
        for verb in step.verbs:
            if isinstance(verb, markup.Reject):
                self._end("rejected", "busy" if verb.reason == "busy" else "no-answer")
                return None
            self._answer()
            match verb:
                case markup.Say():
                    self.carrier_said.append(verb.text)
                    await self._ear.play(self._speak(verb.text, verb.language) * verb.loop, "say")
                case markup.Pause():
                    await trio.sleep(verb.seconds)
                case markup.Redirect():
                    return Fetch("redirect", verb.url, verb.method)
                case markup.Connect():
                    await self._run_stream(verb)
                    if verb.action is not None:
                        return Fetch("action", verb.action, verb.method)
                case markup.DialNumber():
                    dial = await self._connect_human(verb)
                    if verb.action is not None:
                        facts = {"DialCallStatus": dial.status, "DialCallSid": dial.call_sid}
                        if dial.bridged_at is not None and dial.ended_at is not None:
                            facts["DialCallDuration"] = str(round(dial.ended_at - dial.bridged_at))
                        return Fetch("dial", verb.action, verb.method, facts)
                case markup.Hangup():
                    return None
        return None

    def _answer(self) -> None:
        if self.answered.is_set():
            return
        assert self._nursery is not None
        self.status = "in-progress"
        self.answered.set()
        self._nursery.start_soon(self._keep_time)
        self._nursery.start_soon(self._follow_script)
        self._tell().call("in-progress")

    async def _follow_script(self) -> None:
        try:
            await self.plan.script(self.line)
        except* CallOver:  # also out of a nursery of the script's
            pass

    # -- the clock -------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        began = trio.current_time()
        self.tape.started_at = began
        await self._metronome(began, TICK_SECONDS, self._beat)

    def _beat(self, at: float) -> bool:
        if not self.over.is_set():
            self._tick(at)
            self._frames += 1
        return not self.over.is_set()

    def _tick(self, at: float) -> None:
        stream = self.stream
        if stream is not None:
            self._finish_frame(stream)
            stream = self.stream  # a drop may have struck
        words = self.line.take_frame(at)
        congested = self._frames in self.plan.habits.congested_frames
        for each in self.streams:  # also one that is retired and that the app has not closed yet
            if each.is_live and not each.send_audio(words, discard=congested) and each.media.discarded == 1:
                self._alert(31930, "audio towards the app was discarded", each.media.number)
        heard = self._ear.next_frame(at, self._frames, stream)
        self.tape.add(heard, words)
        self.line.put_frame(heard.frame, at)
        self.line.tick()

    def _finish_frame(self, stream: LiveStream) -> None:
        before = stream.media.finished_bytes
        echoes = stream.media.finish_frame(trio.current_time())
        self.line.heard_bytes += stream.media.finished_bytes - before
        stream.send(echoes)
        for drop in self._drops:
            age = trio.current_time() - stream.started_at
            if drop.is_due(stream.media.number, age, self.line.heard_ms, echoed=bool(echoes)):
                self._drops.remove(drop)
                self.drop(drop.how, notice_seconds=drop.notice_seconds)
                return

    # -- streams ---------------------------------------------------------------------------------------

    async def _run_stream(self, verb: markup.Connect) -> None:
        assert self._nursery is not None
        number = len(self.streams) + 1
        media = MediaStream(
            f"MZ{self._rng.getrandbits(128):032x}",
            self.plan.call_sid,
            self.plan.account_sid,
            verb.parameters,
            number=number,
            behaviour=self.plan.behaviour,
            first_timestamp_ms=self._rng.randrange(1, 60),
            record=self._wired,
            warn=lambda code, text: self._alert(code, text, number),
        )
        stream: LiveStream | None = await self._nursery.start(self._carry_stream, verb, media)
        if stream is None:
            return
        try:
            await stream.over.wait()
        finally:
            if not self._keep_stream:
                stream.stop()

    async def _carry_stream(
        self, verb: markup.Connect, media: MediaStream, *, task_status: trio.TaskStatus[LiveStream | None]
    ) -> None:
        signature = sign(self.plan.auth_token, verb.url, {})
        headers = [(b"x-twilio-signature", signature.encode())]
        error = ""
        started = False
        try:
            async with self._connect(verb.url, headers) as transport:
                stream = LiveStream(media, transport, trio.current_time())
                self._attach(stream)
                started = True
                self._tell().stream(verb, media, "stream-started")
                task_status.started(stream)
                await stream.run()
                if stream.ending == "lost":
                    error = "broken pipe"
                    self._alert(31903, error, media.number)
                elif stream.ending == "peer_closed":
                    self._alert(31921, "the app closed the socket", media.number)
        except UpgradeRefused as refused:
            error = f"handshake answered with {refused.status}"
            self._alert(31920, error, media.number)
        except ConnectFailed as failed:
            error = f"no connection: {failed.reason}"
            self._alert(31901 if failed.reason == "timeout" else 31902, error, media.number)
        finally:
            self._wired(WireEvent(trio.current_time(), media.number, True, "ended", error))
        self._tell().stream(verb, media, "stream-error" if error else "stream-stopped", error)
        if not started:
            task_status.started(None)

    def _attach(self, stream: LiveStream) -> None:
        if self._stream is not None and self._stream.is_live:
            self._stream.retired = True
        self._keep_stream = False
        self.streams.append(stream)
        self._stream = stream
        stream.send(stream.media.opening(trio.current_time()))

    # -- dialling --------------------------------------------------------------------------------------

    async def _connect_human(self, verb: markup.DialNumber) -> DialRecord:
        dial = DialRecord(verb.number, f"CA{self._rng.getrandbits(128):032x}")
        self.dials.append(dial)
        dialler = Dialler(self.plan.call_sid, self._ear, self._webhooks, self._speak, self._alert, self._form)
        await dialler.dial(verb, self.plan.humans.get(verb.number, self.plan.anyone), dial)
        return dial

    # -- records ---------------------------------------------------------------------------------------

    def _tell(self) -> Callbacks:
        assert self._callbacks is not None, "the call has begun"
        return self._callbacks

    def _form(self, extra: Mapping[str, str]) -> dict[str, str]:
        return call_form(self.plan, self.status, extra)

    def _wired(self, event: WireEvent) -> None:
        self.wire.append(event)
        self.on_event(event)

    def _requested(self, record: WebhookRecord) -> None:
        self.requests.append(record)
        self.on_event(record)

    def _alert(self, code: int, text: str, stream: int = 0) -> None:
        alert = Alert(trio.current_time(), self.plan.call_sid, stream, code, text)
        self.alerts.append(alert)
        self.on_event(alert)
