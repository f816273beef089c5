"""The emulated carrier over loopback sockets: real resets, real ends, real time."""

from __future__ import annotations

import httpx
import pytest
import trio
from carrier_helpers import TOKEN, document
from carrier_server import AUDIO, Server, serving

from callrt.testing.carrier import Drop, Line
from callrt.testing.carrier_net import open_carrier, serve_rest
from callrt.testing.carrier_plan import DropKind
from callrt.testing.speech import beeps
from callrt.wire.connection import WebSocketTransport


async def test_call_over_sockets_is_heard_in_real_time() -> None:
    async def script(line: Line) -> None:
        await line.wait_for_agent_silence(0.5)
        line.hang_up()

    async with serving() as (server, carrier):
        call = carrier.place(script)
        began = trio.current_time()
        await call.run()
        lasted = trio.current_time() - began
        await server.wait_closed()
    assert server.unsigned == 0
    assert call.tape.agent_audio() == AUDIO
    assert call.end_reason == "caller_hung_up"
    assert lasted >= len(AUDIO) / 8000
    # Absolute deadlines: the clock does not run late however long it runs.
    assert call.tape.seconds == pytest.approx(lasted, abs=0.5)
    assert '"stop"' in server.received[-1][1]
    assert server.closed[0].code == 1000


@pytest.mark.parametrize(("how", "code"), [("rst", None), ("fin", None), ("close", 1000), ("stop", 1000)])
async def test_drop_ends_the_socket_as_named_and_the_echo_before_it_arrives(
    how: DropKind, code: int | None
) -> None:
    async with serving() as (server, carrier):
        call = carrier.place(drops=(Drop(how, heard_ms=200),))
        await call.run()
        await server.wait_closed()
    assert server.closed[0].by_peer
    assert server.closed[0].code == code
    assert call.tape.agent_audio() == AUDIO[:1600]
    assert server.marks()[-1] == "1"
    assert server.paths == ["/voice", "/action"]


async def test_half_open_socket_answers_no_ping_and_tells_nobody() -> None:
    pongs: list[bool] = []

    async def ping(server: Server, transport: WebSocketTransport) -> None:
        await transport.ping()
        pongs.append(True)
        await trio.sleep(0.5)
        await transport.ping()
        pongs.append(True)

    async with serving(ping) as (server, carrier):
        call = carrier.place(drops=(Drop("half_open", seconds=0.3, notice_seconds=1.0),))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run)
            await trio.sleep(1.2)
            last = server.received[-1][0]
            assert trio.current_time() - last > 0.7
            assert server.closed == []
    assert pongs == [True]
    assert server.paths == ["/voice", "/action"]


async def test_refused_upgrade_and_missing_server_are_told_apart() -> None:
    async with serving() as (server, carrier):
        server.refuse = 403
        refused = carrier.place()
        await refused.run()
        server.documents["/voice"] = document(
            '<Connect action="/action"><Stream url="ws://127.0.0.1:9/m"/></Connect>'
        )
        absent = carrier.place()
        await absent.run()
    assert [alert.code for alert in refused.alerts] == [31920]
    assert [alert.code for alert in absent.alerts] == [31902]
    assert server.paths.count("/action") == 2


async def test_app_that_is_down_is_an_application_error() -> None:
    brief = {"speak": lambda text, language: beeps("no")}
    async with open_carrier("http://127.0.0.1:9/voice", auth_token=TOKEN, **brief) as carrier:
        call = carrier.place()
        await call.run()
    assert call.end_reason == "application_error"
    assert [record.status for record in call.requests] == [0, 0]


async def test_rest_interface_on_a_port_redirects_and_ends_a_live_call() -> None:
    async def wait(server: Server, transport: WebSocketTransport) -> None:
        await trio.sleep_forever()

    async with serving(wait) as (server, carrier), trio.open_nursery() as nursery:
        port = await nursery.start(serve_rest, carrier)
        call = carrier.place()
        nursery.start_soon(call.run)
        with trio.fail_after(5):
            while not server.received:
                await trio.sleep(0.01)
        address = (
            f"http://127.0.0.1:{port}/2010-04-01/Accounts/{carrier.account_sid}/Calls/{call.call_sid}.json"
        )
        async with httpx.AsyncClient(auth=(carrier.account_sid, TOKEN)) as client:
            assert (await client.get(address)).json()["status"] == "in-progress"
            pause = document('<Pause length="30"/>')
            assert (await client.post(address, data={"Twiml": pause})).status_code == 200
            assert (await client.post(address, data={"Status": "completed"})).json()["status"] == "completed"
            assert (await client.post(address, data={"Status": "completed"})).json()["code"] == 21220
            assert (await client.post(address, auth=("x", "y"))).status_code == 401
        with trio.fail_after(5):
            await call.over.wait()
        await server.wait_closed()
        nursery.cancel_scope.cancel()
    assert '"stop"' in server.received[-1][1]
