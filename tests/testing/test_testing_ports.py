"""Ports for servers that others start."""

from __future__ import annotations

import socket

from callrt.testing.ports import HIGHEST, LOWEST, free_ports


def test_ports_are_free_different_and_below_those_of_outgoing_connections() -> None:
    """Found by `make crash`: a connection had got the port before the server that it was meant for."""
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert all(LOWEST <= port < HIGHEST for port in ports)
    with socket.socket() as server:
        server.bind(("127.0.0.1", ports[0]))
