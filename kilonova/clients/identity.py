"""Projects and unified limits at any Keystone v3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kilonova.base.clock import Clock
from kilonova.base.errors import Unavailable
from kilonova.clients.keystone import Endpoint, expect
from kilonova.interfaces.identity import UnifiedLimits
from kilonova.web.client import Answer

REMEMBER_SECONDS = 10.0
_REMEMBERED = 2000
_PAGES = 100

Limits = dict[str, int]


class Place(msgspec.Struct, frozen=True):
    """Which service the limits are of (``[oslo_limit]``): an endpoint, or a type and a name."""

    endpoint_id: str | None = None
    service_type: str = "compute"
    service_name: str | None = None
    region: str | None = None


class Identity:
    """A Keystone behind its HTTP API; implements ``interfaces.IdentityService``.

    Limits are remembered for some seconds: who is refused because of them should ask afresh.
    """

    def __init__(self, endpoint: Endpoint, clock: Clock, place: Place | None = None) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._place = place or Place()
        self._where: dict[str, str] | None = None
        self._known: dict[str | None, tuple[float, Limits]] = {}

    async def exists(self, project_id: str) -> bool | None:
        answer = await self._ask("GET", f"/projects/{project_id}")
        return {200: True, 404: False}.get(answer.status)

    async def limits(self, project_id: str | None, *, fresh: bool = False) -> UnifiedLimits:
        if fresh:
            self._known.pop(None, None)
            self._known.pop(project_id, None)
        registered, before = await self._remembered(None)
        own: Limits = {}
        if project_id is not None:
            own, also = await self._remembered(project_id)
            before = before or also
        return UnifiedLimits(registered, own, before)

    async def registered(self) -> Limits:
        """The registered limits of the service, as they are now."""
        found = await self._listed("registered_limits", await self.where())
        return {one["resource_name"]: one["default_limit"] for one in found}

    async def of_project(self, project_id: str) -> Limits:
        """The limits a project has instead, as they are now."""
        found = await self._listed("limits", {**await self.where(), "project_id": project_id})
        return {one["resource_name"]: one["resource_limit"] for one in found}

    async def register(self, name: str, value: int) -> None:
        """Make a registered limit; a Fault of Keystone's status when it refuses."""
        one = {**await self.where(), "resource_name": name, "default_limit": value}
        answer = await self._ask("POST", "/registered_limits", json={"registered_limits": [one]})
        expect(answer, 201, what=f"Registered limit {name}")

    async def set_limit(self, project_id: str, name: str, value: int) -> None:
        """Make a limit of a project; a Fault of Keystone's status when it refuses."""
        one = {
            **await self.where(),
            "project_id": project_id,
            "resource_name": name,
            "resource_limit": value,
        }
        answer = await self._ask("POST", "/limits", json={"limits": [one]})
        expect(answer, 201, what=f"Limit {name} of project {project_id}")

    async def where(self) -> dict[str, str]:
        """``service_id`` and ``region_id`` of the limits; Unavailable when nobody knows."""
        if self._where is None:
            self._where = await self._locate()
        return self._where

    async def _locate(self) -> dict[str, str]:
        place = self._place
        if place.endpoint_id is not None:
            answer = await self._ask("GET", f"/endpoints/{place.endpoint_id}")
            endpoint = expect(answer, 200, what=f"Endpoint {place.endpoint_id}")["endpoint"]
            region = endpoint.get("region_id")
            return {"service_id": endpoint["service_id"]} | (
                {"region_id": region} if region else {}
            )
        wanted = {"type": place.service_type}
        if place.service_name:
            wanted["name"] = place.service_name
        found = await self._listed("services", wanted)
        if len(found) != 1:
            raise Unavailable(
                f"The identity service has {len(found)} services of type {place.service_type}: "
                "say in [oslo_limit] endpoint_id or endpoint_service_name whose limits count."
            )
        region = place.region
        return {"service_id": found[0]["id"]} | ({"region_id": region} if region else {})

    async def _remembered(self, project_id: str | None) -> tuple[Limits, bool]:
        now = self._clock.monotonic()
        known = self._known.get(project_id)
        if known is not None and known[0] > now:
            return known[1], True
        found = await (self.registered() if project_id is None else self.of_project(project_id))
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[project_id] = (now + REMEMBER_SECONDS, found)
        return found, False

    async def _listed(self, what: str, params: Mapping[str, str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        marker: dict[str, str] = {}
        for _ in range(_PAGES):
            answer = await self._ask("GET", f"/{what}", params={**params, **marker})
            doc = expect(answer, 200, what=f"The list of {what}")
            found += doc[what]
            if not doc[what] or not (doc.get("links") or {}).get("next"):
                return found
            marker = {"marker": doc[what][-1]["id"]}
        raise Unavailable(f"The identity service has too many {what}.")

    async def _ask(
        self, method: str, path: str, *, json: Any = None, params: Mapping[str, str] | None = None
    ) -> Answer:
        root = "" if (await self._endpoint.url()).endswith("/v3") else "/v3"
        return await self._endpoint.request(method, root + path, json=json, params=params)
