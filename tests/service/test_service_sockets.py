"""Listening sockets from a process manager: shared, left without turning anybody away."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import trio
import trio.testing
from service_helpers import Client

from callrt.errors import CallrtError
from callrt.service import sockets
from callrt.service.http import HttpRequest, HttpResponse
from callrt.service.listener import Port
from callrt.service.sockets import Door, inherited_sockets


def passed(monkeypatch: pytest.MonkeyPatch, *given: socket.socket, names: str = "") -> dict[str, str]:
    """An environment as systemd makes it; descriptors begin elsewhere than at 3."""
    first = max(each.fileno() for each in given) + 100
    for number, each in enumerate(given):
        os.dup2(each.fileno(), first + number)
    monkeypatch.setattr(sockets, "FIRST_INHERITED", first)
    env = {"LISTEN_PID": "7", "LISTEN_FDS": str(len(given)), "OTHER": "stays"}
    return {**env, "LISTEN_FDNAMES": names} if names else env


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_sockets_are_known_by_name_or_by_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as one, listening() as two:
        for names, expected in (("admin:public", [two, one]), ("", [one, two])):
            env = passed(monkeypatch, one, two, names=names)
            found = inherited_sockets(env, 7)
            assert env == {"OTHER": "stays"}
            for name, each in zip(("public", "admin"), expected, strict=True):
                [own] = found[name]
                assert own.getsockname() == each.getsockname()
                assert not own.get_inheritable()
                own.close()


def test_sockets_for_another_process_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"LISTEN_PID": "8", "LISTEN_FDS": "2"}
    assert inherited_sockets(env, 7) == {}
    assert inherited_sockets({}, 7) == {}


def test_descriptor_that_is_no_listening_socket_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as idle:
        env = passed(monkeypatch, idle)
        with pytest.raises(CallrtError, match="does not listen"):
            inherited_sockets(env, 7)


async def test_port_that_makes_way_answers_who_is_there_and_leaves_the_rest() -> None:
    async def answer(request: HttpRequest) -> HttpResponse:
        return HttpResponse.sentence(200, "old")

    port = Port("public", answer, observe=lambda fact: None)
    with listening() as shared:
        shared.setblocking(False)
        door = Door.of_shared(port, [shared.dup()])
        number = shared.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(door.run)
            async with await trio.open_tcp_stream("127.0.0.1", number) as kept:
                client = Client(kept)
                assert (await client.request("GET", "/")).status == 200
                door.stop_accepting()
                await trio.testing.wait_all_tasks_blocked()
                last = await client.request("GET", "/")
                assert (last.text, last.headers["connection"]) == ("old\n", "close")
            async with await trio.open_tcp_stream("127.0.0.1", number):
                accepted, _ = await trio.socket.from_stdlib_socket(shared.dup()).accept()
                accepted.close()  # it waits for whoever shares the socket
            nursery.cancel_scope.cancel()
