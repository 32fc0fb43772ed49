"""Machines of an Ironic v1."""

from __future__ import annotations

import urllib.parse
from typing import Any

from kilonova.base.errors import NotFound
from kilonova.clients.keystone import Endpoint, expect
from kilonova.interfaces.baremetal import BareMetalNode
from kilonova.web.client import Answer

VERSION = "1.46"
PAGE, MOST_PAGES = 1000, 1000


class Ironic:
    """A bare metal service behind its HTTP API; implements ``interfaces.baremetal``."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def nodes(self) -> list[BareMetalNode]:
        return [node(row) for row in await self._pages("/v1/nodes/detail", "nodes", {})]

    async def node(self, node_id: str) -> BareMetalNode:
        answer = await self._ask(f"/v1/nodes/{urllib.parse.quote(node_id, safe='')}")
        if answer.status == 404:
            raise NotFound(f"Node {node_id} could not be found.")
        return node(expect(answer, 200, what=f"Node {node_id}"))

    async def addresses(self, node_id: str) -> list[str]:
        rows = await self._pages("/v1/ports", "ports", {"node": node_id})
        return [row["address"] for row in rows]

    async def _pages(self, path: str, key: str, query: dict[str, str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        query = {**query, "limit": str(PAGE)}
        for _ in range(MOST_PAGES):
            doc = expect(await self._ask(path, query), 200, what=key)
            rows = doc[key]
            found += rows
            # The service may give fewer than were asked for, and says so with a link.
            if not rows or not doc.get("next"):
                break
            query["marker"] = rows[-1]["uuid"]
        return found

    async def _ask(self, path: str, params: dict[str, str] | None = None) -> Answer:
        headers = {"X-OpenStack-Ironic-API-Version": VERSION}
        return await self._endpoint.request("GET", path, params=params, headers=headers)


def node(doc: dict[str, Any]) -> BareMetalNode:
    """A node document as our Struct."""
    return BareMetalNode(
        id=doc["uuid"],
        state=doc.get("provision_state"),
        instance_id=doc.get("instance_uuid"),
        properties=doc.get("properties") or {},
    )
