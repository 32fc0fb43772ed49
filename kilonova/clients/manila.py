"""File shares of a Manila v2."""

from __future__ import annotations

import urllib.parse
from typing import Any

from kilonova.base.errors import Forbidden, NotFound
from kilonova.clients import keystone
from kilonova.clients.keystone import Endpoint, expect
from kilonova.interfaces.shares import Share
from kilonova.web.client import Answer

VERSION = "2.82"
"""The first with locks on access rules."""
KIND, LEVEL = "ip", "rw"


class Manila:
    """A shared file system service behind its HTTP API; implements ``interfaces.shares``."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def show(self, share_id: str, *, token: str) -> Share:
        path = _path(share_id)
        answer = await self._ask("GET", path, token=token)
        if answer.status in (400, 403, 404):
            raise _none(share_id)
        doc = expect(answer, 200, what=f"Share {share_id}")["share"]
        answer = await self._ask("GET", f"{path}/export_locations", token=token)
        if answer.status == 404:
            raise _none(share_id)
        rows = expect(answer, 200, what=f"Share {share_id}")["export_locations"]
        return Share(doc["id"], doc["status"], doc["share_proto"], _preferred(rows))

    async def grant(self, share_id: str, address: str, *, reason: str) -> bool:
        rule = await self._rule(share_id, address)
        if rule is None:
            rule = await self._allow(share_id, address, reason)
        if rule.get("state") == "error" or rule.get("access_level") != LEVEL:
            raise Forbidden(
                f"Share access could not be granted to share id {share_id}: the rule for "
                f"{address} is {rule.get('access_level')}, {rule.get('state')}."
            )
        return rule.get("state") == "active"

    async def _allow(self, share_id: str, address: str, why: str) -> dict[str, Any]:
        body = {
            "allow_access": {
                "access_type": KIND,
                "access_to": address,
                "access_level": LEVEL,
                "lock_visibility": True,
                "lock_deletion": True,
                "lock_reason": why,
            }
        }
        answer = await self._ask("POST", f"{_path(share_id)}/action", json=body)
        if answer.status == 404:
            raise _none(share_id)
        if answer.status == 409:
            # Somebody else on this host was faster.
            found = await self._rule(share_id, address)
            if found is not None:
                return found
        if answer.status in (400, 403, 409):
            said = keystone.reason(answer)
            raise Forbidden(f"Share access could not be granted to share id {share_id}: {said}")
        made: dict[str, Any] = expect(answer, 200, 202, what=f"Share {share_id}")["access"]
        return made

    async def revoke(self, share_id: str, address: str) -> None:
        try:
            rule = await self._rule(share_id, address)
        except NotFound:
            return
        if rule is None:
            return
        body = {"deny_access": {"access_id": rule["id"], "unrestrict": True}}
        answer = await self._ask("POST", f"{_path(share_id)}/action", json=body)
        if answer.status != 404:
            expect(answer, 200, 202, what=f"Access to share {share_id}")

    async def _rule(self, share_id: str, address: str) -> dict[str, Any] | None:
        answer = await self._ask("GET", "/share-access-rules", params={"share_id": share_id})
        if answer.status in (400, 404):
            raise _none(share_id)
        rows = expect(answer, 200, what=f"Access to share {share_id}")["access_list"]
        for row in rows:
            if (row["access_type"], row["access_to"]) == (KIND, address):
                found: dict[str, Any] = row
                return found
        return None

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        json: Any = None,
        params: dict[str, str] | None = None,
    ) -> Answer:
        return await self._endpoint.request(
            method,
            path,
            token=token,
            json=json,
            params=params,
            headers={"X-OpenStack-Manila-API-Version": VERSION},
        )


def _path(share_id: str) -> str:
    return f"/shares/{urllib.parse.quote(share_id, safe='')}"


def _preferred(rows: list[dict[str, Any]]) -> str | None:
    for row in sorted(rows, key=lambda row: not row.get("preferred")):
        path: str = row["path"]
        return path
    return None


def _none(share_id: str) -> NotFound:
    return NotFound(f"Share {share_id} could not be found.")
