"""REST: what is sent, what is tried again, and what is not."""

from __future__ import annotations

import base64
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import parse_qs

import httpx
import pytest
import trio
import trio.testing

from callrt.policy.settings import TwilioSettings
from callrt.telephony.outbound import CONNECTIONS_MAX
from callrt.telephony.rest import CallFacts, TwilioError, TwilioRest

AC = "AC" + "1" * 32
SECRET = "5" * 32
SETTINGS = TwilioSettings(account_sid=AC, auth_token=SECRET, api_url="http://carrier.test")

Step = httpx.Response | Exception | float


class Script:
    """Answers requests one by one: a response, a failure, or seconds of silence and then a 200."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.requests: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self.steps.pop(0) if self.steps else httpx.Response(200, json={})
        if isinstance(step, Exception):
            raise step
        if isinstance(step, float):
            await trio.sleep(step)
            return httpx.Response(200, json={})
        return step

    def forms(self) -> list[dict[str, list[str]]]:
        return [parse_qs(request.content.decode()) for request in self.requests]


def rest(script: Script) -> TwilioRest:
    return TwilioRest(SETTINGS, transport=httpx.MockTransport(script), rng=random.Random(1))


def refusal(status: int, code: int) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "message": f"secret {SECRET}", "status": status})


async def test_update_call_sends_the_document_with_the_accounts_credentials(
    autojump_clock: trio.testing.MockClock,
) -> None:
    script = Script(httpx.Response(200, json={"sid": "CA7"}))
    async with rest(script) as twilio:
        await twilio.update_call("CA7", twiml="<Response/>")
    request = script.requests[0]
    assert str(request.url) == f"http://carrier.test/2010-04-01/Accounts/{AC}/Calls/CA7.json"
    assert request.headers["authorization"] == "Basic " + base64.b64encode(f"{AC}:{SECRET}".encode()).decode()
    assert script.forms() == [{"Twiml": ["<Response/>"]}]


async def test_update_call_by_address_asks_for_post(autojump_clock: trio.testing.MockClock) -> None:
    script = Script()
    async with rest(script) as twilio:
        await twilio.update_call("CA7", url="https://h/next")
    assert script.forms() == [{"Url": ["https://h/next"], "Method": ["POST"]}]


async def test_update_call_takes_exactly_one_document(autojump_clock: trio.testing.MockClock) -> None:
    async with rest(Script()) as twilio:
        with pytest.raises(ValueError, match="either"):
            await twilio.update_call("CA7")
        with pytest.raises(ValueError, match="either"):
            await twilio.update_call("CA7", twiml="<Response/>", url="https://h")
        with pytest.raises(ValueError, match="use url"):
            await twilio.update_call("CA7", twiml="x" * 4001)


@pytest.mark.parametrize(("status", "code"), [(404, 20404), (400, 21220)])
async def test_hanging_up_a_call_that_is_over_succeeds(
    status: int, code: int, autojump_clock: trio.testing.MockClock
) -> None:
    script = Script(refusal(status, code))
    async with rest(script) as twilio:
        await twilio.hang_up("CA7")
    assert script.forms() == [{"Status": ["completed"]}]


@pytest.mark.parametrize(("status", "code"), [(404, 20404), (400, 21220)])
async def test_updating_a_call_that_is_over_says_so_at_once(
    status: int, code: int, autojump_clock: trio.testing.MockClock
) -> None:
    script = Script(refusal(status, code))
    async with rest(script) as twilio:
        with pytest.raises(TwilioError) as caught:
            await twilio.update_call("CA7", twiml="<Response/>")
    assert caught.value.already_over
    assert len(script.requests) == 1


async def test_too_many_requests_is_tried_again_with_growing_delays(
    autojump_clock: trio.testing.MockClock,
) -> None:
    times: list[float] = []

    class Timed(Script):
        async def __call__(self, request: httpx.Request) -> httpx.Response:
            times.append(trio.current_time())
            return await super().__call__(request)

    script = Timed(refusal(429, 20429), refusal(429, 20429), refusal(429, 20429))
    async with rest(script) as twilio:
        assert await twilio.send_sms("+15550100009", "+15550100002", "x" * 2000) == ""
    delays = [after - before for before, after in itertools.pairwise(times)]
    assert len(delays) == 3
    assert 0.12 < delays[0] < delays[1] < delays[2] <= 1.0
    assert len(script.forms()[0]["Body"][0]) == 1600


async def test_retries_are_bounded(autojump_clock: trio.testing.MockClock) -> None:
    script = Script(*[refusal(429, 20429)] * 50)
    async with rest(script) as twilio:
        with pytest.raises(TwilioError) as caught:
            await twilio.hang_up("CA7")
    assert len(script.requests) == 4
    assert (caught.value.status, caught.value.code) == (429, 20429)


PASSING: list[Callable[[], Step]] = [
    lambda: httpx.ReadTimeout("late"),
    lambda: httpx.RemoteProtocolError("cut"),
    lambda: httpx.Response(503),
    lambda: 60.0,
]


@pytest.mark.parametrize("step", PASSING)
async def test_a_message_that_may_have_been_sent_is_not_sent_again(
    step: Callable[[], Step], autojump_clock: trio.testing.MockClock
) -> None:
    script = Script(step())
    async with rest(script) as twilio:
        with pytest.raises(TwilioError) as caught:
            await twilio.send_sms("+15550100009", "+15550100002", "hello")
    assert caught.value.may_have_happened
    assert len(script.requests) == 1


@pytest.mark.parametrize("step", PASSING)
async def test_a_state_that_may_have_been_set_is_set_again(
    step: Callable[[], Step], autojump_clock: trio.testing.MockClock
) -> None:
    script = Script(step())
    async with rest(script) as twilio:
        await twilio.hang_up("CA7")
    assert len(script.requests) == 2


async def test_a_message_that_was_never_received_is_sent_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    script = Script(httpx.ConnectError("refused"), httpx.Response(201, json={"sid": "SM1"}))
    async with rest(script) as twilio:
        assert await twilio.send_sms("+15550100009", "+15550100002", "hello") == "SM1"


@pytest.mark.parametrize("status", [400, 401, 403, 409])
async def test_a_refusal_is_final(status: int, autojump_clock: trio.testing.MockClock) -> None:
    script = Script(httpx.Response(status, json={"code": 20003}))
    async with rest(script) as twilio:
        with pytest.raises(TwilioError) as caught:
            await twilio.update_call("CA7", twiml="<Response/>")
    assert len(script.requests) == 1
    assert not caught.value.already_over
    assert not caught.value.may_have_happened


async def test_fetch_call_gives_what_twilio_says(autojump_clock: trio.testing.MockClock) -> None:
    script = Script(httpx.Response(200, json={"status": "in-progress", "direction": "inbound"}))
    async with rest(script) as twilio:
        facts = await twilio.fetch_call("CA7")
    assert facts == CallFacts("CA7", "in-progress", "inbound")
    assert not facts.is_over
    assert script.requests[0].method == "GET"


async def test_errors_hold_no_secret_number_or_address(autojump_clock: trio.testing.MockClock) -> None:
    failures: list[Step] = [refusal(401, 20003), httpx.ReadTimeout(f"http://carrier.test/{SECRET}")]
    for failure in failures:
        async with rest(Script(failure)) as twilio:
            with pytest.raises(TwilioError) as caught:
                await twilio.send_sms("+15550100009", "+15550100002", "private words")
        error: BaseException | None = caught.value
        assert error is not None
        assert error.__suppress_context__ or error.__context__ is None
        for hidden in (SECRET, AC, "+1555", "private", "carrier.test"):
            assert hidden not in f"{error!r} {error}"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'"x"', b"\xff", b"x" * 1_000_000])
async def test_an_answer_that_is_no_object_is_harmless(
    body: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with rest(Script(httpx.Response(404, content=body), httpx.Response(200, content=body))) as twilio:
        await twilio.hang_up("CA7")
        assert (await twilio.fetch_call("CA7")).status == ""


async def test_an_answer_that_trickles_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    class Trickle(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await trio.sleep(1)
                yield b" "

    async def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Trickle())

    handler: Callable[[httpx.Request], Awaitable[httpx.Response]] = answer
    twilio = TwilioRest(SETTINGS, transport=httpx.MockTransport(handler), rng=random.Random(1))
    started = trio.current_time()
    async with twilio:
        with pytest.raises(TwilioError):
            await twilio.hang_up("CA7")
    assert trio.current_time() - started < 30


async def test_many_requests_at_once_wait_for_a_place_and_all_are_made(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """When a carrier's site fails, all calls end within a second."""
    now, most, seen = 0, 0, []

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        seen.append(request.url.path)
        await trio.sleep(0.15)
        now -= 1
        return httpx.Response(200, json={})

    async with TwilioRest(SETTINGS, transport=httpx.MockTransport(answer), rng=random.Random(1)) as twilio:
        async with trio.open_nursery() as nursery:
            for number in range(400):
                nursery.start_soon(twilio.hang_up, f"CA{number}")
        assert (len(set(seen)), most) == (400, CONNECTIONS_MAX)
        assert trio.current_time() < 2.5


async def test_who_gives_up_waiting_for_a_place_leaves_none_taken(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hanging = Script(*[4.0] * CONNECTIONS_MAX)
    async with rest(hanging) as twilio, trio.open_nursery() as nursery:
        for number in range(CONNECTIONS_MAX):
            nursery.start_soon(twilio.hang_up, f"CA{number}")
        await trio.sleep(1)
        with trio.move_on_after(1) as scope:
            await twilio.hang_up("CAlate")
        assert scope.cancelled_caught
        await twilio.hang_up("CAlater")
    assert len(hanging.requests) == CONNECTIONS_MAX + 1
