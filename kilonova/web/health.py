"""``/healthcheck`` and ``/metrics``, for services and for daemons that have no API."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from kilonova import __version__

Check = Callable[[], Awaitable[str | None]]

log = logging.getLogger(__name__)

CHECK_TIMEOUT = 5.0
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The figures of one application, in a registry of its own.

    ``before`` is awaited before figures are shown: what is not counted as it happens.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.before: list[Callable[[], Awaitable[None]]] = []
        Gauge(
            "kilonova_info", "The version that runs", ("version",), registry=self.registry
        ).labels(__version__).set(1)
        Gauge(
            "kilonova_start_time_seconds",
            "Start of this service since 1970",
            registry=self.registry,
        ).set_to_current_time()
        names = ("method", "route", "status")
        self._count = Counter(
            "kilonova_http_requests", "Requests answered", names, registry=self.registry
        )
        self._time = Histogram(
            "kilonova_http_request_seconds",
            "Seconds from request to answer",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._children: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (method, route, status)
        pair = self._children.get(key)
        if pair is None:
            if len(method) > 8 or not method.isalpha():
                key = ("OTHER", route, status)
            pair = self._children[key] = (
                self._count.labels(key[0], route, str(status)),
                self._time.labels(key[0], route),
            )
        pair[0].inc()
        pair[1].observe(seconds)

    async def show(self) -> bytes:
        """All figures in Prometheus' text format, counted anew where they are counted rarely."""
        for look in self.before:
            try:
                await look()
            except Exception:
                log.warning("some figures could not be counted", exc_info=True)
        return await asyncio.to_thread(self.expose)

    def expose(self) -> bytes:
        """All figures as they were counted last."""
        return generate_latest(self.registry)


async def run_checks(checks: Mapping[str, Check]) -> dict[str, str | None]:
    """Every check at once, each within 5 seconds; name → None (fine) or the reason."""

    async def one(check: Check) -> str | None:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                return await check()
        except TimeoutError:
            return f"no answer within {CHECK_TIMEOUT:g} seconds"
        except Exception as error:
            log.warning("health check failed", exc_info=True)
            return f"failed: {type(error).__name__}"

    results = await asyncio.gather(*(one(check) for check in checks.values()))
    return dict(zip(checks, results, strict=True))


class Health:
    """The ASGI application of ``/healthcheck`` and ``/metrics``; other paths go to ``inner``.

    ``GET /healthcheck`` is ``OK`` (200) or the failed checks (503) as text; with
    ``Accept: application/json`` every check with its reason.
    """

    def __init__(
        self,
        *,
        checks: Mapping[str, Check] | None = None,
        metrics: Metrics | None = None,
        inner: ASGIApp | None = None,
    ) -> None:
        self.checks = dict(checks or {})
        self.metrics = metrics or Metrics()
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if path in ("/healthcheck", "/metrics"):
                await self._answer(path, scope, send)
                return
        if self._inner is not None:
            await self._inner(scope, receive, send)
        elif scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["type"] == "http":
            await _text(send, scope["method"], 404, b"not found\n", b"text/plain")
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, path: str, scope: Scope, send: Send) -> None:
        method = scope["method"]
        if method not in ("GET", "HEAD"):
            await _text(send, method, 405, b"method not allowed\n", b"text/plain")
        elif path == "/metrics":
            body = await self.metrics.show()
            await _text(send, method, 200, body, CONTENT_TYPE_LATEST.encode())
        else:
            await self._health(scope, send)

    async def _health(self, scope: Scope, send: Send) -> None:
        results = await run_checks(self.checks)
        bad = {name: reason for name, reason in results.items() if reason is not None}
        status = 503 if bad else 200
        accept = dict(scope["headers"]).get(b"accept", b"")
        if b"application/json" in accept:
            detail = {
                "status": "FAILED" if bad else "OK",
                "checks": [
                    {"name": name, "ok": reason is None, "reason": reason or ""}
                    for name, reason in results.items()
                ],
            }
            await _text(
                send, scope["method"], status, msgspec.json.encode(detail), b"application/json"
            )
            return
        text = "".join(f"{name}: {reason}\n" for name, reason in bad.items()) or "OK"
        await _text(send, scope["method"], status, text.encode(), b"text/plain; charset=UTF-8")


def standalone(checks: Mapping[str, Check], metrics: Metrics | None = None) -> Health:
    """An application of health and figures alone, for daemons without an API."""
    return Health(checks=checks, metrics=metrics)


async def lifespan(receive: Receive, send: Send) -> None:
    """Answer the server's start-up and shutdown messages."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return


async def _text(send: Send, method: str, status: int, body: bytes, kind: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
