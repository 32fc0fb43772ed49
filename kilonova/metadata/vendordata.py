"""Vendor data: what operators tell guests, from a file and from services asked about each guest.

Source: Nova administrator guide, page "Vendordata".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from kilonova.base.errors import Fault, Unavailable
from kilonova.domain.guest import GuestSpec
from kilonova.web.client import HttpClient

log = logging.getLogger(__name__)

STATIC, DYNAMIC = "StaticJSON", "DynamicJSON"
LARGEST_ANSWER = 1024 * 1024

Token = Callable[[], Awaitable[str]]


class Rules(msgspec.Struct, frozen=True):
    """Where vendor data comes from. ``targets``: (name, URL); seconds for the whole request."""

    providers: tuple[str, ...] = (STATIC,)
    static: dict[str, Any] = {}
    targets: tuple[tuple[str, str], ...] = ()
    seconds: float = 10.0
    fatal: bool = False


class VendorData:
    """Both documents of vendor data for any guest."""

    def __init__(
        self, rules: Rules, *, http: HttpClient | None = None, token: Token | None = None
    ) -> None:
        """``http`` is needed for targets; ``token`` is ours at the identity service."""
        self._rules = rules
        self._http = http
        self._token = token

    @property
    def first(self) -> dict[str, Any] | None:
        """``vendor_data.json``; None when no provider fills it."""
        return self._rules.static if STATIC in self._rules.providers else None

    async def second(self, guest: GuestSpec) -> dict[str, Any]:
        """``vendor_data2.json``: what the file says as ``static``, then each target by its name.

        A target that fails is empty; Unavailable instead if that is ``fatal``.
        """
        found: dict[str, Any] = {}
        for provider in self._rules.providers:
            if provider == STATIC:
                found["static"] = self._rules.static
            elif provider == DYNAMIC:
                asked = await self._ask_all(guest)
                found.update({name: said for name, said in asked.items() if name not in found})
        return found

    async def _ask_all(self, guest: GuestSpec) -> dict[str, Any]:
        async def ask(name: str, url: str) -> Any:
            try:
                return await self._ask(guest, url)
            except (Fault, msgspec.MsgspecError) as error:
                log.warning("vendor data of %s for %s: %s", name, guest.server_id, error)
                if self._rules.fatal:
                    raise Unavailable(f"The vendor data service {name} did not answer.") from None
                return {}

        targets = dict(reversed(self._rules.targets))
        said = await asyncio.gather(*(ask(name, url) for name, url in targets.items()))
        by_name = dict(zip(targets, said, strict=True))
        return {name: by_name[name] for name, _ in self._rules.targets}

    async def _ask(self, guest: GuestSpec, url: str) -> Any:
        if self._http is None:
            raise Unavailable("There is nothing to ask it with.")
        headers = {"Accept": "application/json", "User-Agent": "openstack-nova-vendordata"}
        if self._token is not None:
            headers["X-Auth-Token"] = await self._token()
        answer = await self._http.request(
            "POST",
            url,
            json=question(guest),
            headers=headers,
            timeout=self._rules.seconds,
            max_answer=LARGEST_ANSWER,
        )
        if answer.status >= 400:
            raise Unavailable(f"It answered with {answer.status}.")
        return msgspec.json.decode(answer.body) if answer.body else {}


def question(guest: GuestSpec) -> dict[str, Any]:
    """What a service is told of the guest it is asked about."""
    about = guest.metadata
    return {
        "project-id": about.project_id,
        "instance-id": guest.server_id,
        "image-id": guest.image.id if guest.image else "",
        "user-data": about.user_data,
        "hostname": about.hostname,
        "metadata": about.meta,
        "boot-roles": about.boot_roles or "",
    }
