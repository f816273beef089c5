"""A worker that does nothing but speak to its parent: quick to start. Run as a program by the tests of the fleet.

``STUB`` says how it behaves: ``good``; ``unborn`` ends before it is ready; ``deaf`` hears nothing.
"""

import json
import os
import socket
import struct
import sys
import time

MESSAGES = {
    name: b"\x91" + bytes([0xA0 + len(name)]) + name.encode()
    for name in ("ready", "steppedback", "declining")
}


def main() -> int:
    line = socket.socket(fileno=int(sys.argv[sys.argv.index("--line") + 1]))
    listening = socket.socket(fileno=int(sys.argv[-1]))
    assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    assert json.loads(sys.stdin.buffer.read())["settings"]
    behaviour = os.environ["STUB"]
    if behaviour == "unborn":
        return 3

    def say(name: str) -> None:
        message = MESSAGES[name]
        line.sendall(struct.pack("!IB", len(message), 0) + message)

    say("ready")
    if behaviour == "deaf":
        time.sleep(60)
    while data := line.recv(65536):
        if b"stepback" in data:
            say("steppedback")
        if b"drain" in data:
            say("declining")
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
