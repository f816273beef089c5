"""Administrative calls. Each runs in the supervisor's own task, between two events."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from .child import Child, State
from .errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildRestarting,
    ChildRunning,
    ChildUnresponsive,
    InvalidOperation,
    NotFound,
    StartFailed,
    SupervisorDown,
    TooManyChildren,
)
from .exits import ExitKind
from .launching import Launch
from .refs import ActorRef
from .spec import ChildSpec, Kind, Restart

if TYPE_CHECKING:
    from .engine import Run

V = TypeVar("V")


@attrs.frozen
class ChildHandle(Generic[V]):
    """A child that was started: the value of its ack and where to send to."""

    id: Hashable
    value: V
    ref: ActorRef[Any]
    declined: bool = False
    """It said that it is not needed: it does not run."""


@attrs.frozen
class ChildInfo:
    """One line of ``which_children``."""

    id: Hashable
    state: State
    kind: Kind
    restart: Restart
    incarnation: int


@attrs.frozen
class ChildCounts:
    """Children in numbers."""

    specs: int
    active: int
    """In state ``running``."""
    supervisors: int
    workers: int


def find(run: Run, id: Hashable) -> Child:
    child = run.children.get(id)
    if child is None:
        raise NotFound(id)
    return child


def handle_of(child: Child, launch: Launch | None = None) -> ChildHandle[Any]:
    if launch is not None and launch.kind == "declined":
        return ChildHandle(child.id, None, ActorRef(child.address), declined=True)
    value = child.inc.value if child.inc is not None else launch.value if launch is not None else None
    return ChildHandle(child.id, value, ActorRef(child.address))


async def start_child(run: Run, spec: ChildSpec) -> ChildHandle[Any]:
    present = run.children.get(spec.id)
    if present is not None:
        if present.state == "running":
            raise AlreadyStarted(spec.id, handle_of(present))
        raise AlreadyPresent(spec.id)
    limit = run.face.max_children
    if limit is not None and len(run.children) >= limit:
        raise TooManyChildren(spec.id, limit)
    child = run.admit(spec, run.face.new_address(spec, run.path))
    launch = await run.launcher.launch(child)
    if launch.kind == "declined":
        run.settle_down(child)
    elif launch.kind != "ok":
        if child.live or child.state == "unresponsive":
            child.unwanted = True  # it is forgotten when it has ended
        else:
            run.forget(child)
        _raise(run, child, launch)
    return handle_of(child, launch)


async def restart_child(run: Run, id: Hashable) -> ChildHandle[Any]:
    _static_only(run, id, "restart_child")
    child = find(run, id)
    _refuse_unless_stopped(child)
    launch = await run.launcher.launch(child)
    if launch.kind != "ok":
        if not child.live:
            child.address.close()
        if launch.kind != "declined":
            _raise(run, child, launch)
    return handle_of(child, launch)


async def terminate_child(run: Run, id: Hashable) -> ExitKind | None:
    child = find(run, id)
    if child.state == "unresponsive":
        return "unresponsive"
    was_live = child.live
    await run.stopper.stop(child)
    if find(run, id).state == "unresponsive":
        return "unresponsive"
    run.settle_down(child)
    return child.last.kind if was_live and child.last is not None else None


async def delete_child(run: Run, id: Hashable) -> None:
    _static_only(run, id, "delete_child")
    child = find(run, id)
    _refuse_unless_stopped(child)
    run.forget(child)
    run.face.drop_address(id)


def _static_only(run: Run, id: Hashable, what: str) -> None:
    if run.strategy == "dynamic":
        raise InvalidOperation(id, f"{what} is not for a dynamic supervisor: it keeps no stopped children")


def _refuse_unless_stopped(child: Child) -> None:
    if child.state == "restarting":
        raise ChildRestarting(child.id)
    if child.state == "unresponsive":
        raise ChildUnresponsive(child.id)
    if child.state != "stopped":
        raise ChildRunning(child.id)


def _raise(run: Run, child: Child, launch: Launch) -> None:
    """Tell the caller of a start that failed; a system exit concerns the whole tree as well."""
    if launch.end is None:
        raise SupervisorDown(run.face.name)
    end, error = launch.end, launch.end.error
    end.forget()
    if end.kind == "system":
        run.outcome = error
        run.request_stop("system exit")
    raise StartFailed(run.path, child.id, launch.kind, end.reason) from error


def which_children(run: Run) -> tuple[ChildInfo, ...]:
    return tuple(
        ChildInfo(child.id, child.state, child.spec.kind, child.spec.restart, child.address.incarnation)
        for child in run.children.values()
    )


def count_children(run: Run) -> ChildCounts:
    children = run.children.values()
    supervisors = sum(1 for child in children if child.spec.kind == "supervisor")
    return ChildCounts(
        specs=len(children),
        active=sum(1 for child in children if child.state == "running"),
        supervisors=supervisors,
        workers=len(children) - supervisors,
    )
