"""Webhooks and media sockets about calls of other workers: checked here, answered there, and accounted for."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing
from service_helpers import CALL, KEY, VOICE, Client, Facts, FakeDesk

from callrt.service.forms import Form
from callrt.service.http import HttpRequest, HttpResponse, serve_http
from callrt.service.listener import Port
from callrt.service.media import MediaDoor
from callrt.service.router import Router
from callrt.service.tokens import PathTokens
from callrt.service.webhooks import Webhooks
from callrt.telephony.urls import Urls

BASE = "https://calls.example.org"
TOKENS = PathTokens(KEY)


@attrs.define
class Others:
    """``theirs``: they have every call."""

    theirs: bool
    asked: list[tuple[str, ...]] = attrs.field(factory=list)

    async def ask(self, call_sid: str, path: str, form: Form) -> HttpResponse | None:
        self.asked.append(("ask", call_sid, path, form.get("CallSid")))
        return HttpResponse(200, b"<theirs/>", "text/xml") if self.theirs else None

    async def pass_on(self, call_sid: str, stream: trio.abc.Stream, head: bytes) -> bool:
        self.asked.append(("pass_on", call_sid, head.decode()))
        return self.theirs

    def settled(self, call_sid: str) -> None:
        self.asked.append(("settled", call_sid))


@attrs.define
class Worker:
    others: Others
    desk: FakeDesk = attrs.field(factory=FakeDesk)
    facts: Facts = attrs.field(factory=Facts)

    async def post(self, path: str, form: dict[str, str], *, signed: bool = True) -> tuple[int, str]:
        webhooks = Webhooks(
            desk=self.desk,
            urls=Urls(BASE),
            keys=[KEY],
            verify=True,
            issue_token=TOKENS.issue,
            observe=self.facts.observe,
            elsewhere=self.others,
        )
        router = Router(self.facts.observe)
        for known, handler in webhooks.routes().items():
            router.post(known, handler)
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_http, theirs, router)
            answer = await Client(ours).post(path, form, signed_for=f"{BASE}{path}" if signed else None)
            nursery.cancel_scope.cancel()
        return answer.status, answer.text

    async def upgrade(self, token: str) -> tuple[str, bytes]:
        """The head that was sent, and what came back."""
        door = MediaDoor(
            desk=self.desk,
            urls=Urls(BASE),
            tokens=TOKENS,
            keys=[KEY],
            verify=True,
            observe=self.facts.observe,
            elsewhere=self.others,
        )

        async def no_http(_request: HttpRequest) -> HttpResponse:
            return HttpResponse(404)

        port = Port("public", no_http, observe=self.facts.observe, media=door.serve)
        ours, theirs = trio.testing.memory_stream_pair()
        head = (
            f"GET /twilio/media/{token} HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port.handle, theirs)
            await ours.send_all(head.encode())
            answer = await ours.receive_some(10_000)
            nursery.cancel_scope.cancel()
        return head, bytes(answer)


async def test_signed_webhook_about_anothers_call_is_answered_there() -> None:
    worker = Worker(Others(theirs=True))
    assert await worker.post("/twilio/action", VOICE) == (200, "<theirs/>")
    assert worker.others.asked == [("ask", CALL, "/twilio/action", CALL)]
    assert worker.desk.asked == []


async def test_webhook_about_a_call_of_ours_is_answered_here_and_accounted_for() -> None:
    worker = Worker(Others(theirs=False))
    status, text = await worker.post("/twilio/voice", VOICE)
    assert (status, "<Stream" in text) == (200, True)
    assert worker.others.asked[-1] == ("settled", CALL)


async def test_desk_that_fails_is_accounted_for_all_the_same() -> None:
    worker = Worker(Others(theirs=False))
    worker.desk.fails = RuntimeError("no")
    assert (await worker.post("/twilio/voice", VOICE))[0] == 200
    assert worker.others.asked[-1] == ("settled", CALL)


async def test_unsigned_webhook_reaches_nobody_else() -> None:
    worker = Worker(Others(theirs=True))
    assert (await worker.post("/twilio/voice", VOICE, signed=False))[0] == 403
    assert worker.others.asked == []


async def test_humans_leg_is_a_question_about_the_callers_call() -> None:
    worker = Worker(Others(theirs=True))
    await worker.post("/twilio/whisper", {**VOICE, "CallSid": "CAhuman", "ParentCallSid": CALL})
    assert worker.others.asked[0][:3] == ("ask", CALL, "/twilio/whisper")


async def test_webhook_without_a_call_is_our_own_to_refuse() -> None:
    worker = Worker(Others(theirs=True))
    form = {key: value for key, value in VOICE.items() if key != "CallSid"}
    assert (await worker.post("/twilio/voice", form))[0] == 400
    assert worker.others.asked == []


async def test_media_socket_of_anothers_call_is_passed_on_unanswered() -> None:
    worker = Worker(Others(theirs=True))
    head, answer = await worker.upgrade(TOKENS.issue(CALL, 1))
    assert worker.others.asked == [("pass_on", CALL, head)]
    assert answer == b"", "whoever has the call answers the upgrade"
    assert list(worker.facts) == []


@pytest.mark.parametrize("token", ["forged", TOKENS.issue(CALL, 1) + "x", PathTokens("other").issue(CALL, 1)])
async def test_media_socket_without_a_token_of_ours_is_refused_here(token: str) -> None:
    worker = Worker(Others(theirs=True))
    _, answer = await worker.upgrade(token)
    assert answer.startswith(b"HTTP/1.1 403")
    assert worker.others.asked == []


async def test_media_socket_of_a_call_of_ours_is_served_here_and_accounted_for() -> None:
    worker = Worker(Others(theirs=False))
    _, answer = await worker.upgrade(TOKENS.issue(CALL, 1))
    assert answer.startswith(b"HTTP/1.1 403"), "not signed"
    assert worker.others.asked[-1] == ("settled", CALL)
