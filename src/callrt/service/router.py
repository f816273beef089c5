"""Paths to handlers: 404 and 405 in one place, and a fact per answer under the route's own name."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from callrt.policy.facts import Fact, RequestServed
from callrt.service.http import Handler, HttpRequest, HttpResponse


@attrs.frozen
class _Route:
    method: str
    handler: Handler


class Router:
    """A handler made of handlers. ``prefix``: the path of ``public_url``, which a proxy may strip."""

    def __init__(self, observe: Callable[[Fact], None], *, prefix: str = "") -> None:
        self._observe = observe
        self._prefix = prefix
        self._routes: dict[str, _Route] = {}

    def get(self, path: str, handler: Handler) -> None:
        """GET and HEAD."""
        self._routes[path] = _Route("GET", handler)

    def post(self, path: str, handler: Handler) -> None:
        self._routes[path] = _Route("POST", handler)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        path = strip_prefix(request.path, self._prefix)
        route = self._routes.get(path)
        started = trio.current_time()
        status = 500
        try:
            response = await self._answer(route, request)
            status = response.status
        finally:
            name = path if route is not None else "none"
            self._observe(RequestServed(name, status, trio.current_time() - started))
        return response

    async def _answer(self, route: _Route | None, request: HttpRequest) -> HttpResponse:
        if route is None:
            return HttpResponse.sentence(404, "there is nothing at this address")
        method = "GET" if request.method == "HEAD" else request.method
        if method != route.method:
            allow = "GET, HEAD" if route.method == "GET" else route.method
            return HttpResponse.sentence(405, f"this address takes {allow}", (("allow", allow),))
        return await route.handler(request)


def strip_prefix(path: str, prefix: str) -> str:
    return path[len(prefix) :] if prefix and path.startswith(prefix + "/") else path
