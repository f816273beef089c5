"""The one shield that an actor may use: it cannot outlive a stop."""

from __future__ import annotations

from typing import Any

import trio
from supervision_world import World, conformance

from callrt.supervision import Exited, Unresponsive


@conformance
async def test_cleanup_that_began_before_the_stop_ends_with_the_shutdown_time(world: World) -> None:
    """The child ends by itself, is half through a long clean-up, and then the supervisor stops."""

    async def body(ctx: Any) -> None:
        try:
            await trio.sleep(1)
        finally:
            with ctx.cleanup(limit=100.0):
                await trio.sleep(100)

    async with world.up(world.supervisor([world.spec("a", body=body, shutdown=3.0)])):
        await trio.sleep(10)
    assert trio.current_time() == 13.0
    assert world.of(Unresponsive) == []


@conformance
async def test_cleanup_has_its_own_limit(world: World) -> None:
    async def body(ctx: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with ctx.cleanup(limit=0.5) as scope:
                await trio.sleep(2)
            assert scope.cancelled_caught

    async with world.up(world.supervisor([world.spec("a", body=body, shutdown=3.0)])):
        pass
    assert trio.current_time() == 0.5
    assert [report.reason.kind for report in world.of(Exited)] == ["shutdown"]


@conformance
async def test_nested_and_parallel_cleanups_all_end_at_the_deadline(world: World) -> None:
    async def one(ctx: Any) -> None:
        with ctx.cleanup(50.0), ctx.cleanup(60.0):
            await trio.sleep(100)

    async def body(ctx: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with ctx.cleanup(40.0):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(one, ctx)
                    nursery.start_soon(one, ctx)

    async with world.up(world.supervisor([world.spec("a", body=body, shutdown=2.0)])):
        pass
    assert trio.current_time() == 2.0
    assert world.of(Unresponsive) == []
