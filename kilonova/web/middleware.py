"""Wrappers around a whole application: forwarded headers of proxies, and CORS."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send


class ProxyHeaders:
    """Believes the proxy in front: ``Forwarded`` (RFC 7239) or ``X-Forwarded-*``.

    Scheme, host, client address and path prefix of the request become what the client used, so
    that links are right (``[oslo_middleware] enable_proxy_headers_parsing``). Only for services
    that no client can reach except through the proxy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = _rewritten(scope)
        await self._app(scope, receive, send)


def _rewritten(scope: Scope) -> Scope:
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    said = _forwarded(headers[b"forwarded"]) if b"forwarded" in headers else {}
    proto = said.get("proto") or _first(headers.get(b"x-forwarded-proto"))
    host = said.get("host") or _first(headers.get(b"x-forwarded-host"))
    port = _first(headers.get(b"x-forwarded-port"))
    client = said.get("for") or _first(headers.get(b"x-forwarded-for"))
    prefix = _first(headers.get(b"x-forwarded-prefix"))
    changed = dict(scope)
    if proto in ("http", "https"):
        secure = {"http": "ws", "https": "wss"} if scope["type"] == "websocket" else {}
        changed["scheme"] = secure.get(proto, proto)
    if host and port.isdigit() and ":" not in host.rpartition("]")[2]:
        host = f"{host}:{port}"
    if host:
        rows = [(name, value) for name, value in scope["headers"] if name != b"host"]
        changed["headers"] = [(b"host", host.encode("latin-1")), *rows]
    if client:
        changed["client"] = (client.strip('"[]'), 0)
    if prefix.startswith("/"):
        changed["root_path"] = prefix.rstrip("/")
    return changed


def _first(value: str | None) -> str:
    return (value or "").partition(",")[0].strip()


def _forwarded(value: str) -> dict[str, str]:
    pairs = (item.partition("=") for item in _first(value).split(";"))
    return {name.strip().lower(): text.strip().strip('"') for name, _, text in pairs if text}


class Cors(msgspec.Struct, frozen=True):
    """The options of ``[cors]`` with oslo.middleware's names."""

    allowed_origin: tuple[str, ...] = ()
    allow_credentials: bool = True
    expose_headers: tuple[str, ...] = (
        "X-Auth-Token",
        "X-OpenStack-Request-Id",
        "X-Subject-Token",
        "X-Service-Token",
        "OpenStack-API-Version",
    )
    max_age: int = 3600
    allow_methods: tuple[str, ...] = ("GET", "PUT", "POST", "DELETE", "PATCH")
    allow_headers: tuple[str, ...] = (
        "X-Auth-Token",
        "X-Openstack-Request-Id",
        "X-Identity-Status",
        "X-Roles",
        "X-Service-Catalog",
        "X-User-Id",
        "X-Tenant-Id",
        "OpenStack-API-Version",
        "Idempotency-Key",
    )


def with_cors(app: ASGIApp, options: Cors) -> ASGIApp:
    """``app`` with CORS for the allowed origins; ``app`` itself if there are none."""
    origins: Sequence[str] = options.allowed_origin
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_credentials=options.allow_credentials and "*" not in origins,
        allow_methods=options.allow_methods,
        allow_headers=options.allow_headers,
        expose_headers=options.expose_headers,
        max_age=options.max_age,
    )
