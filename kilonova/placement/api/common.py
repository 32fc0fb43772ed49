"""What every handler of the Placement API shares: its order of checks and its answers."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Awaitable, Callable, Sequence
from email.utils import format_datetime
from typing import Any, Protocol, TypeVar

import msgspec
from starlette.responses import Response

from kilonova.base.clock import Clock
from kilonova.base.errors import NotAcceptable, UnsupportedMediaType
from kilonova.db.database import Database
from kilonova.placement.index import Index
from kilonova.placement.store import snapshot
from kilonova.placement.store.snapshot import Delta, Mark
from kilonova.web import body as bodies
from kilonova.web.call import Call, Reply
from kilonova.web.idempotency import IdempotencyStore, once, scope_of
from kilonova.web.render import Rendered, raw_headers, render
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, Span


class Limits(Protocol):
    """The options the handlers look at (``[placement]`` of the configuration)."""

    @property
    def max_allocation_candidates(self) -> int: ...
    @property
    def allocation_candidates_generation_strategy(self) -> str: ...
    @property
    def randomize_allocation_candidates(self) -> bool: ...
    @property
    def incomplete_consumer_project_id(self) -> str: ...
    @property
    def incomplete_consumer_user_id(self) -> str: ...


class Placement(msgspec.Struct, frozen=True):
    """What handlers work with."""

    db: Database
    index: Index
    limits: Limits
    keys: IdempotencyStore


class Follower:
    """The source of the index: changes read from the database."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._pruned = 0

    async def changes(self, since: Mark) -> Delta | None:
        """What was committed after ``since``; None for nothing, which costs one short statement."""
        delta = None
        if since.seq >= 0:
            if not await self._db.read(snapshot.moved, since):
                return None
            delta = await self._db.read(snapshot.changes, since, self._clock.monotonic())
        if delta is None:
            delta = await self._db.read(snapshot.everything, self._clock.monotonic())
        if delta.mark.seq > self._pruned + 2 * snapshot.KEPT:
            await self._db.run(snapshot.prune)
            self._pruned = delta.mark.seq - snapshot.KEPT
        return delta


Request = Call[Placement]
H = TypeVar("H", bound=Callable[..., Awaitable[Any]])
JSON = "application/json"

# Fifty hosts reshaped at once, each with some hundred servers, are a few megabytes.
LARGEST_BODY = 16 * 1024 * 1024


class Page(msgspec.Struct, frozen=True):
    """An answer; ``modified`` is when what it shows was last changed (now when not known).

    ``dated`` gives the headers of 1.15 to an answer without a body too.
    """

    body: Any = None
    modified: dt.datetime | None = None
    status: int | None = None
    headers: dict[str, str] = {}
    dated: bool = False


def newest(times: list[dt.datetime]) -> dt.datetime | None:
    """The latest of some times."""
    return max(times, default=None)


def serve(
    routes: Routes[Placement],
    method: str,
    path: str,
    *,
    policy: str,
    body: Schema | None = None,
    query: Schema | None = None,
    before: Callable[..., Awaitable[object]] | None = None,
    status: int = 200,
    since: int = 0,
    until: int | None = None,
    also: Sequence[int | Span] = (),
    summary: str = "",
) -> Callable[[H], H]:
    """Register a handler that gives a `Page`.

    The caller's right comes first, then the kind of body and answer, then ``before`` (what must
    be there whatever the body says), then the schemas. For this order bodies are read here.
    """

    def register(handler: H) -> H:
        @functools.wraps(handler)
        async def checked(call: Request, *args: str) -> Rendered | Response:
            if policy:
                call.enforce(policy, {})
            if method == "GET":
                _check_accept(call)
            if body is not None:
                _check_content(call)
                if before is not None:
                    await before(call, *args)
                call.body = body.check(await _read(call), call.version)
            if query is not None:
                query.check_query(call.query, call.version)

            async def work() -> Rendered:
                return _reply(call, await handler(call, *args), status)

            key = call.request.headers.get("idempotency-key")
            if key is None or method != "POST":
                return await work()
            scope = scope_of("placement", call.caller, key)
            return await once(call.app.keys, scope, call, call.clock, work)

        routes.add(
            method,
            path,
            checked,
            status=status,
            since=since,
            until=until,
            summary=summary,
            public=path == "/",
            stream=method in ("POST", "PUT"),
            policy=policy or None,
            body=body,
            query=query,
            also=also,
            checked=False,
        )
        return handler

    return register


def _check_accept(call: Request) -> None:
    if not accepts_json(call.request.headers.get("accept")):
        raise NotAcceptable("Only application/json is provided")


def accepts_json(accept: str | None) -> bool:
    """Whether an Accept header lets JSON through."""
    if not accept:
        return True
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return bool(kinds & {JSON, "application/*", "*/*"})


def _check_content(call: Request) -> None:
    given = call.request.headers.get("content-type")
    if given is None or given.partition(";")[0].strip().lower() != JSON:
        raise UnsupportedMediaType(f"The media type {given} is not supported, use {JSON}")


async def _read(call: Request) -> Any:
    headers = dict(call.request.scope["headers"])
    call.raw_body = await bodies.read(call.request.receive, headers, LARGEST_BODY)
    return bodies.decode(call.raw_body)


def _reply(call: Request, page: Page | None, status: int) -> Rendered:
    page = page or Page()
    headers = dict(page.headers)
    if call.version >= 15 and (page.body is not None or page.dated):
        headers["last-modified"] = format_datetime(page.modified or call.clock.now(), usegmt=True)
        headers["cache-control"] = "no-cache"
    status = page.status or status
    if page.body is None:
        return Rendered(status, raw_headers(headers), b"")
    return render(Reply(page.body, status, headers), status)


def path_of(call: Request, *parts: str) -> str:
    """The path of a resource as links show it: without scheme and host."""
    prefix: str = call.request.scope.get("root_path", "")
    return "/".join((prefix.rstrip("/"), *parts))
