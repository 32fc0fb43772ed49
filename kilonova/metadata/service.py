"""The metadata service over HTTP: find out which guest asks, and answer from its trees.

A guest is known by ``X-Instance-ID`` with its signature when a network proxy stands between
(``[neutron] service_metadata_proxy``), else by the address it asks from.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import posixpath
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from kilonova.base import log as logs
from kilonova.base.clock import Clock
from kilonova.base.errors import BadRequest, Fault, Forbidden, NotFound
from kilonova.base.ids import request_id
from kilonova.domain.guest import GuestSpec
from kilonova.metadata import ec2, openstack, vendordata
from kilonova.metadata.vendordata import VendorData
from kilonova.web.health import Check, Health, Metrics

log = logging.getLogger(__name__)

LONGEST_PASSWORD = 4 * 255
REMEMBERED = 2000
VENDOR_DATA2 = "vendor_data2.json"


class Guests(Protocol):
    """Where guests are looked up."""

    async def describe(self, server_id: str) -> GuestSpec | None:
        """The guest with its cards, None when there is no such server."""

    async def by_address(self, address: str) -> str | None:
        """The server that alone has this fixed address."""

    async def password(self, server_id: str) -> str:
        """What the guest posted as its password; empty when nothing."""

    async def set_password(self, server_id: str, password: str) -> None:
        """Keep the posted password; Conflict when there is one already."""


class Providers(Protocol):
    """Who knows the guests behind load balancers' metadata providers."""

    async def instance(self, provider_id: str, address: str) -> tuple[str, str]:
        """(server, project) that has this address there; BadRequest when it is not one alone."""


class Rules(msgspec.Struct, frozen=True):
    """How the service behaves; times in seconds."""

    proxied: bool = False
    secret: str = ""
    believe_forwarded: bool = False
    remember: int = 15
    dhcp_domain: str = "novalocal"


class Metadata:
    """The service's memory: guests asked for lately."""

    def __init__(
        self,
        guests: Guests,
        rules: Rules,
        *,
        clock: Clock,
        random: Callable[[int], bytes],
        vendor: VendorData | None = None,
        providers: Providers | None = None,
    ) -> None:
        self._guests = guests
        self._rules = rules
        self._clock = clock
        self._random = random
        self._vendor = vendor or VendorData(vendordata.Rules())
        self._providers = providers
        self._known: OrderedDict[str, tuple[float, GuestSpec]] = OrderedDict()
        self._behind: OrderedDict[tuple[str, str], tuple[float, tuple[str, str]]] = OrderedDict()

    async def respond(self, request: Request) -> Response:
        """The answer to one request; Faults for what is refused."""
        parts = [p for p in posixpath.normpath(request.url.path).split("/") if p]
        if not parts:
            return _text("\n".join((*ec2.VERSIONS, ec2.LATEST)))
        if request.method == "POST" and parts[2:] != ["password"]:
            raise NotFound("There is nothing here to post to.")
        if request.method not in ("GET", "HEAD", "POST"):
            raise NotFound("There is nothing here.")
        guest = await self._asking(request)
        if parts[:1] == ["openstack"]:
            return await self._openstack(guest, parts[1:], request)
        return _ec2(guest, parts[parts[0] == "ec2" :], self._rules.dhcp_domain)

    async def _openstack(self, guest: GuestSpec, parts: list[str], request: Request) -> Response:
        if not parts:
            return _text("\n".join(openstack.shown(self._clock.now().date().isoformat())))
        if parts[0] == "content":
            data = openstack.content(guest, parts[1]) if len(parts) == 2 else None
            return _found(data, "application/octet-stream")
        version = openstack.real(parts[0])
        if version is None or len(parts) > 2:
            raise NotFound("There is no such metadata version.")
        if len(parts) == 1:
            return _text("\n".join(openstack.listing(guest, version)))
        name = parts[1]
        if request.method == "POST":
            return await self._post_password(guest, version, request)
        extras = openstack.Extras(
            random=self._random,
            dhcp_domain=self._rules.dhcp_domain,
            vendor_data=self._vendor.first,
            vendor_data2=await self._vendor.second(guest) if name == VENDOR_DATA2 else {},
            password=await self._guests.password(guest.server_id) if name == "password" else "",
        )
        data = openstack.read(guest, version, name, extras)
        if name.endswith(".json"):
            return _found(data, "application/json")
        return _found(data, "text/plain")

    async def _post_password(self, guest: GuestSpec, version: str, request: Request) -> Response:
        if version < openstack.FILES["password"]:
            raise NotFound("This metadata version keeps no password.")
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LONGEST_PASSWORD:
                raise BadRequest(f"A password has at most {LONGEST_PASSWORD} bytes.")
        try:
            password = body.decode("ascii")
        except UnicodeDecodeError:
            raise BadRequest("A password is posted as base64 text.") from None
        await self._guests.set_password(guest.server_id, password)
        return _text("")

    async def _asking(self, request: Request) -> GuestSpec:
        if self._rules.proxied:
            if request.headers.get("x-metadata-provider"):
                server_id, tenant = await self._balanced(request)
            else:
                server_id, tenant = _signed(request, self._rules.secret)
            guest = await self._guest(server_id)
            if guest is None or tenant != guest.metadata.project_id:
                raise NotFound("There is no metadata for this instance.")
            return guest
        address = _address(request, believe=self._rules.believe_forwarded)
        found = await self._guests.by_address(address)
        guest = await self._guest(found) if found else None
        if guest is None:
            raise NotFound("There is no metadata for this address.")
        return guest

    async def _balanced(self, request: Request) -> tuple[str, str]:
        """(server, project) of who asks through a load balancer of the network service."""
        forwarded = request.headers.get("x-forwarded-for")
        if forwarded is None:
            raise BadRequest("X-Forwarded-For is missing from request.")
        provider = request.headers["x-metadata-provider"]
        address = forwarded.split(",")[0].strip()
        if self._rules.secret:
            signature = request.headers.get("x-metadata-provider-signature", "")
            _check_signature(self._rules.secret, provider, signature)
        if self._providers is None:
            raise BadRequest("The network service is not known here: configure our user for it.")
        now = self._clock.monotonic()
        known = self._behind.get((provider, address))
        if known is not None and known[0] > now:
            return known[1]
        found = await self._providers.instance(provider, address)
        if self._rules.remember:
            self._behind[provider, address] = (now + self._rules.remember, found)
            while len(self._behind) > REMEMBERED:
                self._behind.popitem(last=False)
        return found

    async def _guest(self, server_id: str) -> GuestSpec | None:
        now = self._clock.monotonic()
        known = self._known.get(server_id)
        if known is not None and known[0] > now:
            return known[1]
        guest = await self._guests.describe(server_id)
        if guest is not None and self._rules.remember:
            self._known[server_id] = (now + self._rules.remember, guest)
            self._known.move_to_end(server_id)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return guest


def build(metadata: Metadata, *, checks: dict[str, Check] | None = None) -> ASGIApp:
    """The metadata service as an ASGI application."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        mark = logs.request_id.set(request_id())
        request = Request(scope, receive)
        try:
            response = await metadata.respond(request)
        except Fault as fault:
            response = PlainTextResponse(fault.message + "\n", status_code=fault.status)
        except Exception:
            log.exception("metadata request failed")
            response = PlainTextResponse("The metadata could not be read.\n", status_code=500)
        try:
            await response(scope, receive, send)
        finally:
            logs.request_id.reset(mark)

    return Health(checks=checks, metrics=Metrics(), inner=application)


def sign(secret: str, server_id: str) -> str:
    """The signature a proxy sends along (hex HMAC-SHA256 of the instance id)."""
    return hmac.new(secret.encode(), server_id.encode(), hashlib.sha256).hexdigest()


def _signed(request: Request, secret: str) -> tuple[str, str]:
    """(server, project) that a proxy of the network service vouches for."""
    for name in ("X-Instance-ID", "X-Instance-ID-Signature", "X-Tenant-ID"):
        if not request.headers.get(name):
            raise BadRequest(f"{name} header is missing from request.")
    for name in ("X-Instance-ID", "X-Tenant-ID"):
        if len(request.headers.getlist(name)) > 1 or "," in request.headers[name]:
            raise BadRequest(f"Multiple {name} headers found within request.")
    server_id = request.headers["x-instance-id"]
    _check_signature(secret, server_id, request.headers["x-instance-id-signature"])
    return server_id, request.headers["x-tenant-id"]


def _check_signature(secret: str, what: str, signature: str) -> None:
    right = sign(secret, what).encode()
    if not secret or not hmac.compare_digest(signature.encode("utf-8", "replace"), right):
        raise Forbidden("Invalid proxy request signature.")


def _address(request: Request, *, believe: bool) -> str:
    text = request.client.host if request.client else ""
    if believe:
        text = request.headers.get("x-forwarded-for", text).split(",")[0].strip()
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise BadRequest("The address that asks is not an IP address.") from None


def _ec2(guest: GuestSpec, parts: list[str], dhcp_domain: str) -> Response:
    if not parts:
        return _text("\n".join((*ec2.VERSIONS, ec2.LATEST)))
    version = ec2.real(parts[0])
    if version is None:
        raise NotFound("There is no such metadata version.")
    has_user_data = guest.metadata.user_data is not None
    if len(parts) == 1:
        return _text("meta-data/\nuser-data" if has_user_data else "meta-data/")
    if parts[1] == "user-data" and len(parts) == 2 and has_user_data:
        return _found(openstack.user_data(guest), "text/plain")
    if parts[1] != "meta-data":
        raise NotFound("There is nothing here.")
    node = ec2.find(ec2.meta_data(guest, version, dhcp_domain), parts[2:])
    if node is None:
        raise NotFound("There is nothing here.")
    return _text(ec2.render(node))


def _text(content: str) -> Response:
    return PlainTextResponse(content)


def _found(data: bytes | None, kind: str) -> Response:
    if data is None:
        raise NotFound("There is nothing here.")
    return Response(data, media_type=kind)
