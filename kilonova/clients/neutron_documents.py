"""A Neutron's resources as its own documents, passed on for others."""

from __future__ import annotations

from typing import Any

from kilonova.clients.keystone import Endpoint, expect

ONE = {
    "networks": "network",
    "ports": "port",
    "subnets": "subnet",
    "security-groups": "security_group",
    "security-group-rules": "security_group_rule",
    "floatingips": "floatingip",
}


class NeutronDocuments:
    """Implements ``interfaces.network.NetworkDocuments``."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def find(self, kind: str, *, token: str | None, **filters: Any) -> list[dict[str, Any]]:
        params: dict[str, Any] = {}
        for key, value in filters.items():
            if isinstance(value, tuple) and not value:
                return []
            params[key] = list(value) if isinstance(value, tuple) else value
        answer = await self._endpoint.request("GET", _path(kind), token=token, params=params)
        doc = expect(answer, 200, what=f"Listing {kind}")
        rows: list[dict[str, Any]] = doc[kind.replace("-", "_")]
        return rows

    async def show(self, kind: str, item_id: str, *, token: str | None) -> dict[str, Any] | None:
        answer = await self._endpoint.request("GET", _path(kind, item_id), token=token)
        if answer.status == 404:
            return None
        return _one(kind, expect(answer, 200, what=_what(kind, item_id)))

    async def create(
        self, kind: str, values: dict[str, Any], *, token: str | None
    ) -> dict[str, Any]:
        answer = await self._endpoint.request(
            "POST", _path(kind), token=token, json={ONE[kind]: values}
        )
        return _one(kind, expect(answer, 201, what=f"Making a {ONE[kind]}"))

    async def update(
        self, kind: str, item_id: str, values: dict[str, Any], *, token: str | None
    ) -> dict[str, Any]:
        answer = await self._endpoint.request(
            "PUT", _path(kind, item_id), token=token, json={ONE[kind]: values}
        )
        return _one(kind, expect(answer, 200, what=_what(kind, item_id)))

    async def delete(self, kind: str, item_id: str, *, token: str | None) -> None:
        answer = await self._endpoint.request("DELETE", _path(kind, item_id), token=token)
        expect(answer, 204, what=_what(kind, item_id))


def _path(kind: str, item_id: str = "") -> str:
    return f"/v2.0/{kind}/{item_id}" if item_id else f"/v2.0/{kind}"


def _what(kind: str, item_id: str) -> str:
    return f"{ONE[kind]} {item_id}"


def _one(kind: str, doc: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = doc[ONE[kind]]
    return found
