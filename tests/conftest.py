"""For all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator

import pytest
import trio
from hypothesis import settings

# A sample in every run; HYPOTHESIS_PROFILE=long for a search.
settings.register_profile("sample", max_examples=30, deadline=None)
settings.register_profile("long", max_examples=2_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "sample"))


REAL_TIME = (
    "test_contract_process",
    "test_contract_workers",
    "test_contract_tools",
    "test_contract_calls",
    "/crash/",
    "test_cli_demo",
)
"""Files that mostly wait for processes and real calls: begun first, they cost a second core nothing."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not any(name in item.path.as_posix() for name in REAL_TIME))


def pytest_collection_finish() -> None:
    """What collecting has built stays for good: tests that collect garbage need not look at it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is freed in this test is freed by reference counting."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


@pytest.fixture
def all_tasks() -> Callable[[], list[trio.lowlevel.Task]]:
    """A look at every task of the run that asks."""

    def look() -> list[trio.lowlevel.Task]:
        root = trio.lowlevel.current_root_task()
        found, waiting = [], [] if root is None else [root]
        while waiting:
            found.append(waiting.pop())
            waiting.extend(kid for nursery in found[-1].child_nurseries for kid in nursery.child_tasks)
        return found

    return look
