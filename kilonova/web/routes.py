"""Routes: the table rows that tie a method and a path to a handler, and the `Api` they make."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Generic, TypedDict, TypeVar, Unpack

import msgspec

from kilonova.web.call import A
from kilonova.web.faults import FaultStyle
from kilonova.web.schema import Schema, Span
from kilonova.web.versions import VersionRange

Handler = Callable[..., Awaitable[Any]]
H = TypeVar("H", bound=Handler)

PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:path)?\}")
BODY_LIMIT = 114688
JSON_TYPES = ("application/json",)


class Options(TypedDict, total=False):
    """What may be said about a route; see `Routes.route`."""

    policy: str | None
    body: Schema | None
    query: Schema | None
    status: int
    action: str | None
    since: int
    until: int | None
    gone: bool
    public: bool
    stream: bool
    max_body: int | None
    summary: str
    responses: Schema | None
    consumes: Sequence[str]
    head: bool | None
    versioned: bool
    tags: Sequence[str]
    also: Sequence[int | Span]
    checked: bool


class Route(msgspec.Struct, frozen=True):
    """One row: method and path template, the handler, and everything said about it."""

    method: str
    path: str
    handler: Handler
    arguments: tuple[str, ...]
    policy: str | None = None
    body: Schema | None = None
    query: Schema | None = None
    status: int = 200
    action: str | None = None
    since: int = 0
    until: int | None = None
    gone: bool = False
    public: bool = False
    stream: bool = False
    max_body: int | None = None
    summary: str = ""
    responses: Schema | None = None
    consumes: tuple[str, ...] = JSON_TYPES
    head: bool | None = None
    versioned: bool = True
    rooted: bool = True
    tags: tuple[str, ...] = ()
    also: tuple[int | Span, ...] = ()
    checked: bool = True

    def covers(self, version: int) -> bool:
        """Whether the route exists at minor ``version``."""
        return self.since <= version and (self.until is None or version <= self.until)

    def also_at(self, version: int) -> list[int]:
        """The further statuses at minor ``version``."""
        spans = [item if isinstance(item, Span) else Span(0, version, item) for item in self.also]
        return [span.value for span in spans if span.first <= version <= span.last]

    def overlaps(self, other: Route) -> bool:
        """Whether both exist at some version."""
        mine = self.until if self.until is not None else 1 << 30
        theirs = other.until if other.until is not None else 1 << 30
        return self.since <= theirs and other.since <= mine


class Routes(Generic[A]):
    """The routes of one module; nothing is registered globally.

    ``rooted=False`` hangs them at the top instead of under the service's roots (version
    documents); those are not versioned.
    """

    def __init__(self, *, prefix: str = "", rooted: bool = True, tag: str = "") -> None:
        self.prefix = prefix
        self.rooted = rooted
        self.tag = tag
        self._rows: list[Route] = []

    def route(self, method: str, path: str, **options: Unpack[Options]) -> Callable[[H], H]:
        """Register the decorated ``async def handler(call, **path parameters)``.

        policy      oslo.policy rule checked with the caller's own target, after the schemas
        body, query versioned JSON schemas
        status      of an answer that is no `Reply` with its own
        action      the body key of ``POST …/action``; one path, many actions
        since/until minor versions (inclusive) at which the route exists, else 404
        gone        removed interface: always 410
        public      no token needed
        stream      the body is not read: the handler uses ``call.request.stream()``
        max_body    bytes; 114688 if not said
        consumes    media types of the body (``application/json``)
        head        answer HEAD by the GET handler; as the Api says if None
        versioned   False: microversion headers are not looked at
        also        further statuses it may answer (some as spans), for OpenAPI; what every route
                    of its kind may answer (400, 401, 403, 404, 409 …) need not be said
        checked     False: the handler itself looks at policy, body and query, in an order of its
                    own; they are said for OpenAPI
        """

        def register(handler: H) -> H:
            self.add(method, path, handler, **options)
            return handler

        return register

    def add(self, method: str, path: str, handler: Handler, **options: Unpack[Options]) -> None:
        """`route` without decorator syntax."""
        full = self.prefix + path
        known = {name for name, _ in PARAMETER.findall(full)}
        names = list(inspect.signature(handler).parameters)[1:]
        given: dict[str, Any] = dict(options)
        given["consumes"] = tuple(options.get("consumes", JSON_TYPES))
        given["also"] = tuple(options.get("also", ()))
        given["tags"] = tuple(options.get("tags", (self.tag,) if self.tag else ()))
        if not self.rooted:
            given.setdefault("versioned", False)
        row = Route(method.upper(), full, handler, tuple(names), rooted=self.rooted, **given)
        missing = [name for name in names if name not in known]
        if missing:
            raise ValueError(f"{method} {full}: the path has no parameter {', '.join(missing)}")
        self._rows.append(row)

    def get(self, path: str, **options: Unpack[Options]) -> Callable[[H], H]:
        """`route` for GET."""
        return self.route("GET", path, **options)

    def post(self, path: str, **options: Unpack[Options]) -> Callable[[H], H]:
        """`route` for POST."""
        return self.route("POST", path, **options)

    def put(self, path: str, **options: Unpack[Options]) -> Callable[[H], H]:
        """`route` for PUT."""
        return self.route("PUT", path, **options)

    def patch(self, path: str, **options: Unpack[Options]) -> Callable[[H], H]:
        """`route` for PATCH."""
        return self.route("PATCH", path, **options)

    def delete(self, path: str, **options: Unpack[Options]) -> Callable[[H], H]:
        """`route` for DELETE."""
        return self.route("DELETE", path, **options)

    def head(self, path: str, **options: Unpack[Options]) -> Callable[[H], H]:
        """`route` for HEAD."""
        return self.route("HEAD", path, **options)

    def __iter__(self) -> Iterator[Route]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class Root(msgspec.Struct, frozen=True):
    """A prefix all routes hang under; ``relaxed``: unknown keys and version headers ignored."""

    prefix: str
    relaxed: bool = False


class Api(Generic[A]):
    """A whole service: its routes, versions, roots and the style of its errors."""

    def __init__(
        self,
        name: str,
        routes: Sequence[Routes[A]],
        *,
        versions: VersionRange | None = None,
        faults: FaultStyle,
        roots: Sequence[str | Root] = ("",),
        head: bool = False,
        wrong_method: int = 405,
        auth_misses: bool = True,
        request_id_header: str | None = None,
        max_body: int = BODY_LIMIT,
        closing_slash: bool = True,
    ) -> None:
        """``head``: HEAD is answered by every GET route. ``wrong_method``: 405 or 404.

        ``auth_misses``: unknown paths under a root are 401 without a token, as behind
        keystonemiddleware. ``request_id_header``: a further header for the request id
        (``x-compute-request-id``). ``max_body``: bytes. ``closing_slash``: a slash after a path
        does not matter; if not, only the first part of a path may have one.
        """
        self.name = name
        self.routes = [row for group in routes for row in group]
        self.versions = versions
        self.faults = faults
        self.roots = [Root(root) if isinstance(root, str) else root for root in roots]
        self.head = head
        self.wrong_method = wrong_method
        self.auth_misses = auth_misses
        self.request_id_header = request_id_header
        self.max_body = max_body
        self.closing_slash = closing_slash
