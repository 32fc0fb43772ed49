"""Carry guests' requests to 169.254.169.254 to the metadata service, saying who asks.

A listener sits in each DHCP namespace (address 169.254.169.254, reached by the route DHCP gives,
so networks without a router have metadata too) and on each inner leg of each router (to which the
router redirects). The network is known from the listener, the guest from the source address, which
the anti-spoofing rules vouch for unless a port has its port security switched off.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import socket
from typing import TYPE_CHECKING

from msgspec import Struct

from kilonova.embedded.network.plane import names, netns
from kilonova.embedded.network.plane.desired import Endpoint, HostPlan
from kilonova.embedded.network.plane.dhcp import METADATA_IP
from kilonova.embedded.network.plane.env import PlaneEnv, PlaneError
from kilonova.embedded.network.plane.layout import METADATA_PORT

if TYPE_CHECKING:  # slow to import, and a host may have no network yet
    import aiohttp
    from aiohttp import web

log = logging.getLogger(__name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT"})
_IP_FREEBIND = 15
# Hop by hop (RFC 9110, 7.6.1), or made anew on this side.
_OURS = frozenset(
    {
        "connection", "content-length", "date", "keep-alive", "proxy-authenticate", "server",
        "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_PASSED_ON = frozenset({"accept", "content-type", "user-agent", "accept-encoding"})


class ProxySettings(Struct, frozen=True):
    """Where the metadata service is, the secret shared with it (``metadata_proxy_shared_secret``),
    and the bounds: seconds and bytes."""

    upstream: str
    secret: str
    connect_timeout: float = 5.0
    timeout: float = 60.0
    connection_lifetime: float = 90.0
    connections: int = 128
    most_request: int = 64 << 10
    most_response: int = 16 << 20

    def __repr__(self) -> str:
        return f"ProxySettings(upstream={self.upstream!r})"


class Listener(Struct, frozen=True):
    """A place guests of a network reach the proxy at; ``device`` only in routers."""

    netns: str
    network_id: str
    device: str | None = None


class MetadataProxy:
    """The listeners of one host and the pool of connections to the metadata service."""

    def __init__(self, settings: ProxySettings, env: PlaneEnv) -> None:
        self._settings = settings
        self._env = env
        self._guests: dict[tuple[str, str], Endpoint] = {}
        self._open: dict[tuple[Listener, int, int], _Door] = {}
        self._session: aiohttp.ClientSession | None = None
        self._lock = asyncio.Lock()

    async def sync(self, plan: HostPlan) -> list[str]:
        """Listen where the plan (already applied) has DHCP servers and routers, nowhere else.

        Returns what could not be opened; the next call tries it again.
        """
        async with self._lock:
            self._guests = {
                (network.id, _plain(fixed.ip)): endpoint
                for network in plan.networks
                for endpoint in network.endpoints
                for fixed in endpoint.fixed_ips
            }
            problems: list[str] = []
            wanted = {}
            for listener in listeners(plan, self._env.deployment_id):
                try:
                    wanted[(listener, *await asyncio.to_thread(_identity, listener))] = listener
                except (PlaneError, OSError) as error:
                    problems.append(f"{listener.netns}: {error}")
            for key in self._open.keys() - wanted.keys():
                await self._open.pop(key).close()
            for key in wanted.keys() - self._open.keys():
                try:
                    self._open[key] = await self._listen(wanted[key])
                except (PlaneError, OSError) as error:
                    problems.append(f"{key[0].netns}: {error}")
            return problems

    async def close(self) -> None:
        """Stop listening and close all connections."""
        async with self._lock:
            for door in self._open.values():
                await door.close()
            self._open.clear()
            if self._session is not None:
                await self._session.close()
                self._session = None

    async def _listen(self, listener: Listener) -> _Door:
        from aiohttp import web  # noqa: PLC0415 (see above)

        sock = await asyncio.to_thread(_bind, listener)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await self._handle(request, listener.network_id)

        return await _Door.open(sock, web.Server(handle), self._settings)

    async def _handle(self, request: web.BaseRequest, network_id: str) -> web.StreamResponse:
        import aiohttp  # noqa: PLC0415 (see above)
        from aiohttp import web  # noqa: PLC0415

        source = _plain(request.remote or "")
        guest = self._guests.get((network_id, source))
        if guest is None or not guest.device_id:
            log.info("metadata: nobody in network %s has the address %s", network_id, source)
            return web.Response(status=404)
        if request.method not in _METHODS:
            return web.Response(status=405, headers={"Allow": ", ".join(sorted(_METHODS))})
        body = await request.content.read(self._settings.most_request + 1)
        while not request.content.at_eof() and len(body) <= self._settings.most_request:
            body += await request.content.read(self._settings.most_request + 1 - len(body))
        if len(body) > self._settings.most_request:
            return web.Response(status=413)
        headers = {
            name: value for name, value in request.headers.items() if name.lower() in _PASSED_ON
        }
        headers |= identity_headers(guest, source, self._settings.secret)
        try:
            return await self._ask(request, headers, body)
        except TimeoutError:
            return web.Response(status=504)
        except (aiohttp.ClientError, OSError) as error:
            log.warning("metadata: the service does not answer: %s", error)
            return web.Response(status=503)

    async def _ask(
        self, request: web.BaseRequest, headers: dict[str, str], body: bytes
    ) -> web.StreamResponse:
        import aiohttp  # noqa: PLC0415 (see above)
        from aiohttp import web  # noqa: PLC0415
        from yarl import URL  # noqa: PLC0415

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(
                    total=self._settings.timeout, connect=self._settings.connect_timeout
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        path = request.rel_url.raw_path_qs
        url = URL(self._settings.upstream.rstrip("/") + "/" + path.lstrip("/"), encoded=True)
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            content = bytearray()
            async for piece in answer.content.iter_any():
                content += piece
                if len(content) > self._settings.most_response:
                    return web.Response(status=502)
            kept = {n: v for n, v in answer.headers.items() if n.lower() not in _OURS}
            return web.Response(status=answer.status, body=bytes(content), headers=kept)


class _Door:
    """One listening socket with its connections, which are few and do not live for ever."""

    def __init__(self, server: asyncio.Server, handlers: web.Server) -> None:
        self._server = server
        self._handlers = handlers

    @classmethod
    async def open(
        cls, sock: socket.socket, handlers: web.Server, settings: ProxySettings
    ) -> _Door:
        loop = asyncio.get_running_loop()

        def connection() -> asyncio.Protocol:
            if len(handlers.connections) >= settings.connections:
                return _Refusal()
            made = handlers()
            loop.call_later(settings.connection_lifetime, made.force_close)
            return made

        return cls(await loop.create_server(connection, sock=sock), handlers)

    async def close(self) -> None:
        self._server.close()
        await self._handlers.shutdown(1.0)
        await self._server.wait_closed()


class _Refusal(asyncio.Protocol):
    """Close at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def listeners(plan: HostPlan, deployment_id: str) -> list[Listener]:
    """Every place guests of the plan's networks reach the proxy at."""
    found = [
        Listener(names.dhcp_namespace(deployment_id, network.id), network.id)
        for network in plan.networks
        if network.dhcp is not None
    ]
    found += [
        Listener(
            names.router_namespace(deployment_id, router.id),
            leg.network_id,
            names.inner_leg(leg.port_id),
        )
        for router in plan.routers
        for leg in router.interfaces
    ]
    return found


def identity_headers(guest: Endpoint, source: str, secret: str) -> dict[str, str]:
    """What the metadata service wants to know, as Neutron's metadata agent says it."""
    signature = hmac.new(secret.encode(), guest.device_id.encode(), hashlib.sha256).hexdigest()
    return {
        "X-Forwarded-For": source,
        "X-Instance-ID": guest.device_id,
        "X-Tenant-ID": guest.project_id,
        "X-Instance-ID-Signature": signature,
    }


def _identity(listener: Listener) -> tuple[int, int]:
    """Inode of the namespace and index of the device: a new one needs a new socket."""
    inode = (netns.RUN / listener.netns).stat().st_ino
    if listener.device is None:
        return inode, 0
    device = listener.device
    return inode, netns.run_in(listener.netns, lambda: socket.if_nametoindex(device))


def _bind(listener: Listener) -> socket.socket:
    def inside() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if listener.device is None:
                made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
                made.bind((METADATA_IP, 80))
            else:
                device = listener.device.encode()
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
                made.bind(("0.0.0.0", METADATA_PORT))
            made.listen(128)
            made.setblocking(False)
        except OSError:
            made.close()
            raise
        return made

    return netns.run_in(listener.netns, inside)


def _plain(address: str) -> str:
    return address.lower().removeprefix("::ffff:")
