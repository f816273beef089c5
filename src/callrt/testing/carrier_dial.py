"""``<Dial>``: a human's telephone rings, the human hears the whisper, then the caller is connected."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import trio

from callrt.testing.carrier_ear import Ear
from callrt.testing.carrier_plan import DialRecord, Human, Speak
from callrt.testing.carrier_stream import FRAME_BYTES, TICK_SECONDS
from callrt.testing.carrier_webhooks import DocumentUnavailable, Webhooks
from callrt.testing.twiml_player import DialNumber, Hangup, Pause, Say


@attrs.frozen
class Dialler:
    """What a dial needs of its call."""

    call_sid: str
    ear: Ear
    webhooks: Webhooks
    speak: Speak
    alert: Callable[[int, str], None]
    form: Callable[[Mapping[str, str]], dict[str, str]]

    async def dial(self, verb: DialNumber, human: Human, dial: DialRecord) -> None:
        """Fills in ``dial`` as it goes; returns when the two are no longer connected, or never were."""
        self.ear.ringing = True
        try:
            if human.reaction != "answers" or human.answer_seconds > verb.timeout:
                waits = {"busy": 1.0, "failed": 0.5}
                await trio.sleep(waits.get(human.reaction, verb.timeout))
                dial.status = human.reaction if human.reaction != "answers" else "no-answer"
                return
            await trio.sleep(human.answer_seconds)
            if verb.whisper_url is not None and not await self._whisper(verb.whisper_url, verb, dial):
                dial.status = "failed"
                return
            self.ear.ringing = False
            dial.bridged_at = trio.current_time()
            await self.ear.play(human.says, "human")
            await trio.sleep(human.talk_seconds)
            dial.status = "completed"
        finally:
            self.ear.ringing = False
            dial.ended_at = trio.current_time()

    async def _whisper(self, url: str, verb: DialNumber, dial: DialRecord) -> bool:
        """What the human hears alone, before the caller is connected. False if that went wrong."""
        form = self.form({"ParentCallSid": self.call_sid, "Direction": "outbound-dial"})
        form |= {"CallSid": dial.call_sid, "To": dial.number, "Called": dial.number}
        try:
            verbs = await self.webhooks.fetch("whisper", url, verb.whisper_method, form)
        except DocumentUnavailable as error:
            self.alert(error.code, str(error))
            return False
        for spoken in verbs:
            match spoken:
                case Say():
                    dial.whispers.append(spoken.text)
                    audio = self.speak(spoken.text, spoken.language) * spoken.loop
                    await trio.sleep(len(audio) / FRAME_BYTES * TICK_SECONDS)
                case Pause():
                    await trio.sleep(spoken.seconds)
                case Hangup():
                    return False
                case _:
                    self.alert(13245, "a verb that a whisper may not hold")
                    return False
        return True
