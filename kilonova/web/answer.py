"""The one pipeline every request goes through, from request id to rendered answer."""

from __future__ import annotations

import functools
import logging
import re
import time
from typing import Any, Generic

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kilonova.base import log as context
from kilonova.base.clock import Clock
from kilonova.base.errors import (
    BadRequest,
    Gone,
    Internal,
    MethodNotAllowed,
    NotFound,
    Unauthorized,
)
from kilonova.base.ids import Ids, request_id
from kilonova.web import body as bodies
from kilonova.web.auth import LONGEST_TOKEN, Authenticator, expired
from kilonova.web.call import NOBODY, A, Call, Caller, Enforcer, Query
from kilonova.web.health import Metrics
from kilonova.web.idempotency import IdempotencyStore, once, scope_of
from kilonova.web.loopback import LOOPBACK
from kilonova.web.preferences import ERROR_CODE, preferences
from kilonova.web.render import RawHeaders, Rendered, find_fault, render, render_fault
from kilonova.web.router import Found, Router, Slot, Target
from kilonova.web.routes import JSON_TYPES, Api, Route
from kilonova.web.versions import echo, negotiate

log = logging.getLogger("kilonova.web")

WARNED_BYTES = 1 << 15
"""Longer answers are looked at only where one outside its schema is an error: it takes time."""

_GLOBAL_ID = re.compile(rb"req-[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
GONE = "This resource is no longer available. No forwarding address is given."
"""The words every WebOb application has for 410; clients look for them."""
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")
_NO_ROWS: tuple[tuple[bytes, bytes], ...] = ()


class Service(Generic[A]):
    """An `Api` compiled together with everything its requests need."""

    def __init__(
        self,
        api: Api[A],
        app: A,
        *,
        auth: Authenticator,
        policy: Enforcer,
        clock: Clock,
        ids: Ids,
        metrics: Metrics,
        idempotency: IdempotencyStore | None = None,
        fallback: ASGIApp | None = None,
        auth_uri: str | None = None,
        public_url: str | None = None,
        answers: str = "ignore",
    ) -> None:
        """``answers``: outside their schema they are an error, a warning, or not looked at."""
        self.api = api
        self.answers = answers
        self.app = app
        self.router = Router(api)
        self.auth = auth
        self.policy = policy
        self.clock = clock
        self.ids = ids
        self.metrics = metrics
        self.idempotency = idempotency
        self.fallback = fallback
        self.challenge = {"WWW-Authenticate": f'Keystone uri="{auth_uri}"'} if auth_uri else {}
        self.public_url = public_url.rstrip("/") if public_url else None
        names = ["x-openstack-request-id"]
        if api.request_id_header:
            names.append(api.request_id_header.lower())
        self.id_headers = [name.encode() for name in names]
        self.closed_prefixes = tuple(
            root.prefix.partition("{")[0].rstrip("/") for root in api.roots if api.auth_misses
        )


class Trail(msgspec.Struct):
    """What is known about a request so far, for headers, log and figures."""

    request_id: str
    headers: dict[bytes, bytes]
    template: str = "-"
    version_rows: tuple[tuple[bytes, bytes], ...] = _NO_ROWS
    version: int | None = None
    status: int = 0
    length: int = 0
    started: bool = False


async def answer(service: Service[A], scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one HTTP request; whatever happens inside becomes an answer with a request id."""
    begun = time.perf_counter()
    trail = Trail(request_id(), dict(scope["headers"]))
    mark = context.request_id.set(trail.request_id)
    who = context.who.set("")
    outer = trail.headers.get(b"x-openstack-request-id")
    outer_mark = None
    if outer is not None and _GLOBAL_ID.fullmatch(outer):
        outer_mark = context.global_request_id.set(outer.decode())
    try:
        try:
            result = await _respond(service, trail, scope, receive, send)
            if isinstance(result, Response):
                await result(scope, receive, _with_headers(service, trail, send))
            elif result is not None:
                await _send(service, trail, result, scope["method"], send)
        except bodies.ClientGone:
            trail.status = 499
        except Exception as error:
            await _send_error(service, trail, error, scope["method"], send)
        spent = time.perf_counter() - begun
        service.metrics.observe(scope["method"], trail.template, trail.status, spent)
        # What this process asks of itself would fill the log: it is told when it fails.
        inside = LOOPBACK in scope.get("extensions", ()) and trail.status < 400
        level = logging.DEBUG if inside else logging.INFO
        if log.isEnabledFor(level):
            _log_line(level, scope, trail, spent)
    finally:
        context.request_id.reset(mark)
        context.who.reset(who)
        if outer_mark is not None:
            context.global_request_id.reset(outer_mark)


async def _respond(
    service: Service[A], trail: Trail, scope: Scope, receive: Receive, send: Send
) -> Rendered | Response | None:
    path = scope["path"]
    if "\0" in path:
        raise BadRequest("The path of the URL must not contain NUL characters.")
    found = service.router.find(path)
    slot = found.methods.get(scope["method"]) if found is not None else None
    if found is None or slot is None:
        if found is None and service.fallback is not None:
            trail.template = "extra"
            await service.fallback(scope, receive, _with_headers(service, trail, send))
            return None
        await _miss(service, trail, path, found)
        return None
    trail.template = slot.first.path
    caller = NOBODY if slot.first.public else await authenticate(service, trail.headers)
    request = Request(scope, receive)
    call = _start_call(service, trail, request, slot, found, caller=caller)
    target = await _choose(service, trail, call, slot, receive)
    return await _run(service, call, target, found)


async def _miss(service: Service[A], trail: Trail, path: str, found: Found | None) -> None:
    """A path or method that is not there: 401 without a token where the service is closed."""
    for prefix in service.closed_prefixes:
        inside = not prefix or path == prefix or path.startswith(prefix + "/")
        if inside and not (found and any(slot.first.public for slot in found.methods.values())):
            await authenticate(service, trail.headers)
            break
    if found is None or service.api.wrong_method == 404:
        raise NotFound("The resource could not be found.")
    allow = ", ".join(sorted(found.methods))
    raise MethodNotAllowed(
        f"The method is not allowed here; allowed: {allow}.", headers={"Allow": allow}
    )


async def authenticate(service: Service[A], headers: dict[bytes, bytes]) -> Caller:
    """The caller by ``X-Auth-Token`` (and service roles by ``X-Service-Token``); Unauthorized."""
    caller = await _who(service, headers.get(b"x-auth-token"))
    if caller is None:
        raise Unauthorized(
            "The request you have made requires authentication.", headers=service.challenge
        )
    helper = headers.get(b"x-service-token")
    if helper is not None:
        user = await _who(service, helper)
        if user is None:
            raise Unauthorized("The service token is not valid.", headers=service.challenge)
        caller = msgspec.structs.replace(caller, service_roles=user.roles)
    context.who.set(f"{caller.user_id} {caller.project_id or '-'}")
    return caller


async def _who(service: Service[A], raw: bytes | None) -> Caller | None:
    if not raw or len(raw) > LONGEST_TOKEN or not raw.isascii():
        return None
    caller = await service.auth.authenticate(raw.decode())
    if caller is None or expired(caller, service.clock):
        return None
    return caller


def _start_call(
    service: Service[A],
    trail: Trail,
    request: Request,
    slot: Slot,
    found: Found,
    *,
    caller: Caller,
) -> Call[A]:
    versions = service.api.versions
    version = versions.minimum if versions else 0
    if versions is not None and slot.first.versioned and not slot.root.relaxed:
        version = negotiate(versions, trail.headers)
        trail.version = version
        trail.version_rows = echo(versions, version)
    root, project = slot.root.prefix, None
    for name, value in zip(slot.root_names, found.values, strict=False):
        root = root.replace("{" + name + "}", value)
        project = value if name in ("project_id", "tenant_id") else project
    if project is not None and caller is not NOBODY and project != caller.project_id:
        raise BadRequest(
            f"Malformed request URL: its project id {project[:64]!r} is not the project "
            f"{caller.project_id!r} of the token."
        )
    return Call(
        app=service.app,
        request=request,
        policy=service.policy,
        clock=service.clock,
        ids=service.ids,
        request_id=trail.request_id,
        caller=caller,
        version=version,
        query=Query(request.scope["query_string"]),
        base=service.public_url or _base(request.scope, trail.headers),
        root=root,
        project_in_path=project,
        relaxed=slot.root.relaxed,
    )


async def _choose(
    service: Service[A], trail: Trail, call: Call[A], slot: Slot, receive: Receive
) -> Target:
    """Read the body and pick the row for its action key and the version (404 if none)."""
    rows = slot.plain
    if slot.reads:
        raw = call.raw_body = await bodies.read(receive, trail.headers, slot.limit)
        # A request whose body has been taken must still answer `request.body()` and `.json()`.
        call.request._body = raw
        if raw:
            bodies.check_type(trail.headers, slot.consumes)
            call.body = bodies.decode(raw)
    elif slot.first.stream and slot.consumes != JSON_TYPES:
        bodies.check_type(trail.headers, slot.consumes)
    if slot.actions:
        rows = _action_rows(slot, call.body) or rows
        if not rows:
            raise BadRequest(_no_action(call.body))
    for row in rows:
        if row.route.covers(call.version):
            return row
    raise NotFound("The resource could not be found at this API version.")


def _action_rows(slot: Slot, body: Any) -> list[Target] | None:
    if isinstance(body, dict) and len(body) == 1:
        return slot.actions.get(next(iter(body)))
    return None


def _no_action(body: Any) -> str:
    if not isinstance(body, dict) or not body:
        return "There is no such action: the request body must be an object with the action's name."
    if len(body) > 1:
        return "There is no such action: the request body must name exactly one."
    return f"There is no such action: {next(iter(body))[:128]}"


async def _run(
    service: Service[A], call: Call[A], target: Target, found: Found
) -> Rendered | Response:
    route = target.route
    values = found.values
    call.params = dict(zip(target.names, values, strict=True))
    if route.gone:
        raise Gone(GONE)
    if route.checked:
        if route.query is not None:
            route.query.check_query(call.query, call.version, relaxed=call.relaxed)
        if route.body is not None:
            call.body = route.body.check(call.body, call.version, relaxed=call.relaxed)
        if route.policy is not None:
            call.enforce(route.policy)
    arguments = [values[index] for index in target.arguments]
    store = service.idempotency
    if store is not None and route.method == "POST" and not route.stream and not route.public:
        key = call.request.headers.get("idempotency-key")
        # A rehearsal must not answer for the real thing.
        if key is not None and not call.prefers("dry-run"):
            scope = scope_of(service.api.name, call.caller, key)

            async def run() -> Rendered | Response:
                return _rendered(service, call, route, await route.handler(call, *arguments))

            return await once(store, scope, call, service.clock, run)
    return _rendered(service, call, route, await route.handler(call, *arguments))


def _rendered(service: Service[A], call: Call[A], route: Route, result: Any) -> Rendered | Response:
    if isinstance(result, Response):
        return result
    made = result if isinstance(result, Rendered) else render(result, route.status)
    if service.answers != "ignore" and route.responses is not None:
        _check(service, call, route, made)
    return made


def _check(service: Service[A], call: Call[A], route: Route, made: Rendered) -> None:
    """Hold an answer against the route's schema; Internal where that is an error."""
    schema = route.responses.at(call.version) if route.responses is not None else None
    if schema is None or not made.body or made.status >= 400:
        return
    if service.answers == "warn" and len(made.body) > WARNED_BYTES:
        return
    said = msgspec.json.decode(made.body)
    if schema.is_valid(said):
        return
    reason = f"{route.method} {route.path}: {schema.reason(said, 'the answer')}"
    if service.answers == "error":
        raise Internal(f"The answer does not fit its schema. {reason}")
    log.warning("an answer does not fit its schema: %s", reason)


async def _send(
    service: Service[A], trail: Trail, result: Rendered, method: str, send: Send
) -> None:
    body = result.body
    trail.status = result.status
    trail.length = len(body)
    headers: RawHeaders = [*result.headers]
    if result.status != 204:
        headers.append((b"content-length", b"%d" % len(body)))
    headers.extend(_own_headers(service, trail))
    trail.started = True
    await send({"type": "http.response.start", "status": result.status, "headers": headers})
    if method == "HEAD" or result.status in (204, 304):
        body = b""
    await send({"type": "http.response.body", "body": body})


async def _send_error(
    service: Service[A], trail: Trail, error: Exception, method: str, send: Send
) -> None:
    fault = find_fault(error)
    if fault is None:
        log.exception("unexpected error while answering", exc_info=error)
        fault = Internal(
            f"An unexpected error happened. Give the operator this request id: {trail.request_id}."
        )
    elif fault.status >= 500:
        log.warning("answering %d: %s", fault.status, fault.message, exc_info=error)
    if trail.started:
        # The status line is out: all that is left is to end the connection unfinished.
        trail.status = 500
        return
    asked = ERROR_CODE in preferences(trail.headers.get(b"prefer"))
    coded = asked or "/ext/" in trail.template
    result = render_fault(fault, service.api.faults, trail.request_id, coded=coded)
    if asked:
        result.headers.append((b"preference-applied", ERROR_CODE.encode()))
    await _send(service, trail, result, method, send)


def _own_headers(service: Service[A], trail: Trail) -> RawHeaders:
    value = trail.request_id.encode()
    return [*((name, value) for name in service.id_headers), *trail.version_rows]


def _with_headers(service: Service[A], trail: Trail, send: Send) -> Send:
    """``send`` that adds the request id and version headers and notes status and length."""

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            trail.status = message["status"]
            trail.started = True
            headers = [*message.get("headers", ()), *_own_headers(service, trail)]
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body":
            trail.length += len(message.get("body", b""))
        await send(message)

    return wrapped


def _log_line(level: int, scope: Scope, trail: Trail, spent: float) -> None:
    client = scope.get("client")
    query = scope["query_string"].decode("latin-1")
    log.log(
        level,
        '%s "%s %s" status: %d len: %d microversion: %s time: %.6f',
        client[0] if client else "-",
        scope["method"],
        f"{scope['path']}?{query}" if query else scope["path"],
        trail.status,
        trail.length,
        trail.version_rows[0][1].decode().partition(" ")[2] if trail.version_rows else "-",
        spent,
    )


def _base(scope: Scope, headers: dict[bytes, bytes]) -> str:
    host = headers.get(b"host", b"").decode("latin-1")
    scheme = scope.get("scheme", "http")
    prefix = scope.get("root_path", "")
    return _base_url(scheme, host, prefix, tuple(scope.get("server") or ("localhost", 80)))


@functools.lru_cache(maxsize=256)
def _base_url(scheme: str, host: str, prefix: str, server: tuple[Any, ...]) -> str:
    if not _HOST.fullmatch(host):
        host = f"{server[0]}:{server[1]}"
    if scheme not in ("http", "https"):
        scheme = "http"
    return f"{scheme}://{host}{prefix.rstrip('/')}"
