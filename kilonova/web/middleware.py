"""Wrappers around a whole application: forwarded headers of proxies, a second address, CORS."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send


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


class AlsoUnder:
    """Serves ``app`` below ``prefix`` as well (``/identity``), with links as they were asked for.

    Many clients and installers expect a service there which they reach by one port with others.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path == self._prefix or path.startswith(f"{self._prefix}/"):
            root = scope.get("root_path", "") + self._prefix
            path = path.removeprefix(self._prefix) or "/"
            scope = {**scope, "path": path, "raw_path": path.encode(), "root_path": root}
        await self._app(scope, receive, send)


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


# Headers a script may send without being allowed to (WHATWG Fetch, and oslo.middleware's more).
_SIMPLE = frozenset(
    {
        "accept",
        "accept-language",
        "cache-control",
        "content-language",
        "content-type",
        "expires",
        "last-modified",
        "pragma",
    }
)


def with_cors(app: ASGIApp, options: Cors) -> ASGIApp:
    """``app`` with CORS for the allowed origins; ``app`` itself if there are none."""
    return _CorsApp(app, options) if options.allowed_origin else app


class _CorsApp:
    """CORS as oslo.middleware does it: preflights are answered here, always with 200.

    A preflight that may not be gets no ``Access-Control-*`` header, as does any other answer to a
    foreign origin.
    """

    def __init__(self, app: ASGIApp, options: Cors) -> None:
        self._app = app
        self._options = options
        self._methods = frozenset(options.allow_methods)
        self._headers = _SIMPLE | {name.lower() for name in options.allow_headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"]) if scope["type"] == "http" else {}
        if b"origin" not in headers:
            await self._app(scope, receive, send)
            return
        origin = headers[b"origin"].decode("latin-1")
        allowed = self._origin(origin)
        method = headers.get(b"access-control-request-method", b"").decode("latin-1")
        if scope["method"] == "OPTIONS" and method:
            asked = headers.get(b"access-control-request-headers", b"").decode("latin-1")
            names = [name.strip() for name in asked.split(",") if name.strip()]
            out = self._preflight(origin, method, names) if allowed else []
            out.append((b"content-length", b"0"))
            await send({"type": "http.response.start", "status": 200, "headers": out})
            await send({"type": "http.response.body", "body": b""})
            return
        extra = self._common(origin) if allowed else [(b"vary", b"Origin")]
        if allowed and self._options.expose_headers:
            exposed = ",".join(self._options.expose_headers).encode()
            extra.append((b"access-control-expose-headers", exposed))

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self._app(scope, receive, sent)

    def _origin(self, origin: str) -> bool:
        return origin in self._options.allowed_origin or "*" in self._options.allowed_origin

    def _common(self, origin: str) -> list[tuple[bytes, bytes]]:
        out = [(b"vary", b"Origin"), (b"access-control-allow-origin", origin.encode("latin-1"))]
        # Never beside a wildcard: any page could then act as whoever is logged in.
        if self._options.allow_credentials and "*" not in self._options.allowed_origin:
            out.append((b"access-control-allow-credentials", b"true"))
        return out

    def _preflight(
        self, origin: str, method: str, names: Sequence[str]
    ) -> list[tuple[bytes, bytes]]:
        if method not in self._methods or any(n.lower() not in self._headers for n in names):
            return []
        out = self._common(origin)
        out.append((b"access-control-max-age", str(self._options.max_age).encode()))
        out.append((b"access-control-allow-methods", method.encode("latin-1")))
        if names:
            out.append((b"access-control-allow-headers", ",".join(names).encode("latin-1")))
        return out
