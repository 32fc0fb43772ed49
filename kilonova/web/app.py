"""Building the ASGI application of a service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.routing import BaseRoute
from starlette.routing import Router as StarletteRouter
from starlette.types import ASGIApp, Receive, Scope, Send

from kilonova.base.clock import Clock
from kilonova.base.errors import NotFound
from kilonova.base.ids import Ids
from kilonova.web.answer import Service, answer
from kilonova.web.auth import Authenticator
from kilonova.web.call import A, Enforcer
from kilonova.web.health import Check, Health, Metrics, lifespan
from kilonova.web.idempotency import IdempotencyStore
from kilonova.web.middleware import Cors, ProxyHeaders, with_cors
from kilonova.web.routes import Api


def build(
    api: Api[A],
    app: A,
    *,
    auth: Authenticator,
    policy: Enforcer,
    clock: Clock,
    ids: Ids,
    checks: Mapping[str, Check] | None = None,
    idempotency: IdempotencyStore | None = None,
    extra: Sequence[BaseRoute] = (),
    metrics: Metrics | None = None,
    auth_uri: str | None = None,
    public_url: str | None = None,
    trust_forwarded: bool = False,
    cors: Cors | None = None,
    answers: str = "ignore",
) -> ASGIApp:
    """The whole service as one ASGI application, with ``/healthcheck`` and ``/metrics``.

    ``extra``: Starlette routes (WebSockets, static files) tried when none of ours has the path.
    ``auth_uri``: the public identity URL shown in ``WWW-Authenticate``. ``public_url``: what links
    start with; by default the Host header. ``trust_forwarded``: believe what a
    proxy in front says (`ProxyHeaders`). ``cors``: origins whose scripts may use the service.
    ``answers``: what those outside their schemas are: ``error`` (500), ``warn``, or ``ignore``.
    ValueError if the routes contradict each other.
    """
    figures = metrics or Metrics()
    router = StarletteRouter(extra, default=_nothing) if extra else None
    service = Service(
        api,
        app,
        auth=auth,
        policy=policy,
        clock=clock,
        ids=ids,
        metrics=figures,
        idempotency=idempotency,
        fallback=router,
        auth_uri=auth_uri,
        public_url=public_url,
        answers=answers,
    )

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(service, scope, receive, send)
        elif scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif router is not None:
            await router(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    whole: ASGIApp = Health(checks=checks, metrics=figures, inner=application)
    if cors is not None:
        whole = with_cors(whole, cors)
    return ProxyHeaders(whole) if trust_forwarded else whole


async def _nothing(scope: Scope, _receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    raise NotFound("The resource could not be found.")
