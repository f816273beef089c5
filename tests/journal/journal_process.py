"""A real process that writes a journal, to be killed. Says on standard output what was acknowledged."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec
import trio

from callrt.journal import Journal, LeaseLost, SqliteStore, StreamRefused
from callrt.protocol.records import AgentSaid, AnyRecord, CallAccepted, ToolFinished, ToolIntended


def say(*words: object) -> None:
    print(*words, flush=True)


async def talk(journal: Journal, call_sid: str) -> None:
    """One call that never ends: each round is a tool that must commit, and words that are written behind."""
    await journal.append(call_sid, CallAccepted(carrier="twilio", agent="a", caller="", called=""))
    epoch = await journal.attach(call_sid, "MZ1", 1)
    say("attached", call_sid, epoch)
    turn = 0
    while True:
        key = f"{call_sid}:{turn}"
        await journal.append(
            call_sid,
            ToolIntended(call_id=key, name="book", arguments="{}", idempotency_key=key, side_effects=True),
            epoch=epoch,
        )
        say("intended", call_sid, key)
        journal.append_nowait(call_sid, AgentSaid(item_id=key, text=f"{turn}", heard_ms=20), epoch=epoch)
        say("said", call_sid, key, time.time())
        await journal.append(call_sid, ToolFinished(call_id=key, status="ok", output=""), epoch=epoch)
        say("finished", call_sid, key)
        # Nothing but words for a while, so that they wait for their flush.
        for word in range(turn % 4):
            item = f"{key}:{word}"
            journal.append_nowait(call_sid, AgentSaid(item_id=item, text="w", heard_ms=20), epoch=epoch)
            say("said", call_sid, item, time.time())
            await trio.sleep(0.03)
        turn += 1


async def contend(journal: Journal, call_sid: str, name: str, rounds: int) -> None:
    """Claim the call again and again against others who do; write under the lease until it is lost."""
    for turn in range(rounds):
        try:
            state = await journal.read(call_sid)
            generation = (state.attached_generation if state is not None else 0) + 1
            stream_sid = f"MZ{name}{turn}"
            epoch = await journal.attach(call_sid, stream_sid, generation)
        except StreamRefused:
            say("refused", name)
            continue
        say("attached", name, epoch)
        try:
            for word in range(5):
                said = AgentSaid(item_id=f"{epoch}:{word}", text=f"{epoch}", heard_ms=20)
                await journal.append(call_sid, said, epoch=epoch)
                say("wrote", name, epoch)
                await trio.sleep(0.001)
        except LeaseLost:
            say("lost", name, epoch)


async def each_kind(journal: Journal) -> None:
    """One record of every kind, as its class demands; then wait to be killed."""
    values = {str: "a", int: 1, bool: False}
    for kind in AnyRecord.__args__:
        record = kind(**{field.name: values[field.type] for field in msgspec.structs.fields(kind)})
        if kind.must_commit:
            await journal.append("CA1", record)
        else:
            journal.append_nowait("CA1", record)
            say("said", kind.__name__)
            continue
        say("committed", kind.__name__)
    journal.append_nowait("CA2", CallAccepted(carrier="twilio", agent="a", caller="", called=""))
    await trio.sleep(0.25)
    say("waited")
    await trio.sleep_forever()


async def main(verb: str, path: str, *names: str) -> None:
    journal = Journal(SqliteStore(Path(path), busy_seconds=1.0), now=time.time)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run, None)
        say("ready")
        if verb == "talk":
            for call_sid in names:
                nursery.start_soon(talk, journal, call_sid)
        elif verb == "kinds":
            await each_kind(journal)
        else:
            await contend(journal, "CA1", names[0], rounds=20)
            nursery.cancel_scope.cancel()
    await journal.aclose()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
