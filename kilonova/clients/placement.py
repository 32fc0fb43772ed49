"""Providers, candidates and claims at any Placement that speaks 1.39."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from kilonova.base.errors import BadGateway, BadRequest, Conflict
from kilonova.clients.keystone import Endpoint, expect, reason
from kilonova.domain.whynot import WhyNot
from kilonova.interfaces.placement import (
    Candidates,
    Claim,
    Holding,
    Inventory,
    Summary,
)
from kilonova.web.client import Answer

_VERSION = {"OpenStack-API-Version": "placement 1.39"}
_TRIES = 8
_CONCURRENT = "placement.concurrent_update"


class Placement:
    """A placement service behind its HTTP API; implements ``interfaces.PlacementService``."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        return await self._endpoint.request(
            method, path, json=json, params=params, headers={**_VERSION, **(headers or {})}
        )

    async def ensure_provider(self, uuid: str, name: str, parent: str | None = None) -> None:
        body: dict[str, Any] = {"name": name, "parent_provider_uuid": parent}
        for _ in range(2):
            answer = await self._ask("GET", f"/resource_providers/{uuid}")
            if answer.status == 200:
                there = answer.json()
                if (there["name"], there["parent_provider_uuid"]) != (name, parent):
                    answer = await self._ask("PUT", f"/resource_providers/{uuid}", json=body)
                break
            answer = await self._ask("POST", "/resource_providers", json={**body, "uuid": uuid})
            if answer.status != 409:
                break
        expect(answer, 200, 201, what=f"Resource provider {name}")

    async def delete_provider(self, uuid: str) -> None:
        answer = await self._ask("DELETE", f"/resource_providers/{uuid}")
        expect(answer, 204, 404, what=f"Resource provider {uuid}")

    async def children(self, uuid: str) -> dict[str, str]:
        answer = await self._ask("GET", "/resource_providers", params={"in_tree": uuid})
        found = expect(answer, 200, what=f"The tree of {uuid}")["resource_providers"]
        return {one["uuid"]: one["name"] for one in found if one["uuid"] != uuid}

    async def inventory(self, uuid: str) -> dict[str, Inventory]:
        doc = await self._of(uuid, "inventories")
        found = (doc or {}).get("inventories", {})
        return {name: msgspec.convert(one, Inventory) for name, one in found.items()}

    async def set_inventory(self, uuid: str, inventories: Mapping[str, Inventory]) -> None:
        await self._ensure_names("resource_classes", inventories)
        wanted = {name: msgspec.structs.asdict(one) for name, one in inventories.items()}

        async def write(doc: dict[str, Any]) -> Answer | None:
            if doc["inventories"] == wanted:
                return None
            body = {
                "resource_provider_generation": doc["resource_provider_generation"],
                "inventories": wanted,
            }
            return await self._ask("PUT", f"/resource_providers/{uuid}/inventories", json=body)

        await self._write(uuid, "inventories", write)

    async def traits(self, uuid: str) -> frozenset[str]:
        doc = await self._of(uuid, "traits")
        return frozenset((doc or {}).get("traits", ()))

    async def set_traits(
        self, uuid: str, traits: Collection[str], *, owned: Collection[str] | None = None
    ) -> None:
        await self._ensure_names("traits", traits)
        await self._set(uuid, "traits", frozenset(traits), owned)

    async def aggregates(self, uuid: str) -> frozenset[str]:
        doc = await self._of(uuid, "aggregates")
        return frozenset((doc or {}).get("aggregates", ()))

    async def set_aggregates(
        self, uuid: str, aggregates: Collection[str], *, owned: Collection[str] | None = None
    ) -> None:
        await self._set(uuid, "aggregates", frozenset(aggregates), owned)

    async def candidates(self, query: Sequence[tuple[str, str]]) -> Candidates:
        # Parameters may repeat, so they cannot go as a mapping.
        answer = await self._ask("GET", f"/allocation_candidates?{urlencode(list(query))}")
        if answer.status != 200:
            expect(answer, 200, what="Allocation candidates")
        return read_candidates(answer.body)

    async def explain(self, query: Sequence[tuple[str, str]]) -> WhyNot | None:
        asked = [(key, value) for key, value in query if key != "limit"]
        path = f"/allocation_candidates?{urlencode([*asked, ('limit', '1')])}"
        answer = await self._ask("GET", path, headers={"Prefer": "explain"})
        doc = expect(answer, 200, what="Allocation candidates")
        told = doc.get("explanation")
        return None if told is None else msgspec.convert(told, WhyNot)

    async def claim(self, claim: Claim) -> bool:
        answer = await self._ask("PUT", f"/allocations/{claim.consumer}", json=_body(claim))
        return await self._claimed(answer, [claim])

    async def claim_all(self, claims: Sequence[Claim]) -> bool:
        body = {claim.consumer: _body(claim) for claim in claims}
        return await self._claimed(await self._ask("POST", "/allocations", json=body), claims)

    async def release(self, consumer: str) -> None:
        answer = await self._ask("DELETE", f"/allocations/{consumer}")
        expect(answer, 204, 404, what=f"Allocations of {consumer}")

    async def allocations_of(self, consumer: str) -> Holding:
        answer = await self._ask("GET", f"/allocations/{consumer}")
        doc = expect(answer, 200, what=f"Allocations of {consumer}")
        return Holding(
            allocations={uuid: one["resources"] for uuid, one in doc["allocations"].items()},
            project_id=doc.get("project_id", ""),
            user_id=doc.get("user_id", ""),
            generation=doc.get("consumer_generation"),
            consumer_type=doc.get("consumer_type", ""),
        )

    async def allocations_for_provider(self, uuid: str) -> dict[str, dict[str, int]]:
        doc = await self._of(uuid, "allocations") or {"allocations": {}}
        return {consumer: one["resources"] for consumer, one in doc["allocations"].items()}

    async def usages(
        self, project_id: str, user_id: str | None = None
    ) -> dict[str, dict[str, int]]:
        params = {"project_id": project_id} | ({"user_id": user_id} if user_id else {})
        answer = await self._ask("GET", "/usages", params=params)
        used: dict[str, dict[str, int]] = expect(answer, 200, what="Usages")["usages"]
        return used

    async def _of(self, uuid: str, what: str) -> dict[str, Any] | None:
        answer = await self._ask("GET", f"/resource_providers/{uuid}/{what}")
        if answer.status == 404:
            return None
        doc: dict[str, Any] = expect(answer, 200, what=f"Resource provider {uuid}")
        return doc

    async def _write(
        self, uuid: str, what: str, write: Callable[[dict[str, Any]], Awaitable[Answer | None]]
    ) -> None:
        """Read, let ``write`` put the change on that generation, again while others come first."""
        for _ in range(_TRIES):
            answer = await self._ask("GET", f"/resource_providers/{uuid}/{what}")
            doc = expect(answer, 200, what=f"Resource provider {uuid}")
            done = await write(doc)
            if done is None:
                return
            if not _came_second(done):
                expect(done, 200, what=f"The {what} of resource provider {uuid}")
                return
        raise Conflict(f"The {what} of resource provider {uuid} change faster than we can write.")

    async def _set(
        self, uuid: str, what: str, wanted: frozenset[str], owned: Collection[str] | None
    ) -> None:
        async def write(doc: dict[str, Any]) -> Answer | None:
            there = frozenset(doc[what])
            kept = frozenset() if owned is None else there - frozenset(owned)
            if there == wanted | kept:
                return None
            body = {
                "resource_provider_generation": doc["resource_provider_generation"],
                what: sorted(wanted | kept),
            }
            return await self._ask("PUT", f"/resource_providers/{uuid}/{what}", json=body)

        await self._write(uuid, what, write)

    async def _ensure_names(self, kind: str, names: Collection[str]) -> None:
        for name in names:
            if name.startswith("CUSTOM_"):
                answer = await self._ask("PUT", f"/{kind}/{name}")
                if answer.status >= 400:
                    raise BadRequest(f"Placement refuses the name {name}: {reason(answer)}")

    async def _claimed(self, answer: Answer, claims: Sequence[Claim]) -> bool:
        if answer.status == 409 and _came_second(answer):
            # Our own first try may have been answered into the void: then it is all there.
            for claim in claims:
                held = await self.allocations_of(claim.consumer)
                if held.allocations != claim.allocations:
                    raise Conflict(
                        f"Consumer {claim.consumer} holds other allocations than expected: "
                        f"{reason(answer)}"
                    )
            return True
        if answer.status == 409:
            return False
        expect(answer, 204, what="Claiming resources")
        return True


def _came_second(answer: Answer) -> bool:
    if answer.status != 409:
        return False
    errors = answer.json().get("errors") or [{}]
    return bool(errors[0].get("code") == _CONCURRENT)


def _body(claim: Claim) -> dict[str, Any]:
    body: dict[str, Any] = {
        "allocations": {u: {"resources": part} for u, part in claim.allocations.items()},
        "project_id": claim.project_id,
        "user_id": claim.user_id,
        "consumer_type": claim.consumer_type,
        "consumer_generation": claim.generation,
    }
    if claim.mappings:
        body["mappings"] = {suffix: list(uuids) for suffix, uuids in claim.mappings.items()}
    return body


def read_candidates(body: bytes) -> Candidates:
    """The answer to a search; there may be thousands of candidates in it. BadGateway."""
    try:
        doc = _ANSWER.decode(body)
    except msgspec.MsgspecError:
        raise _nonsense() from None
    return Candidates(doc.allocation_requests, doc.provider_summaries)


def _nonsense() -> BadGateway:
    return BadGateway("Placement answered with something that is no search result.")


class _Part(msgspec.Struct):
    resources: dict[str, int]


class _Way(msgspec.Struct, frozen=True, gc=False):
    """Implements ``interfaces.AllocationRequest``: what is to be taken is read when asked for."""

    parts: dict[str, msgspec.Raw] = msgspec.field(name="allocations")
    told: msgspec.Raw = msgspec.field(name="mappings", default=msgspec.Raw(b"{}"))

    @property
    def providers(self) -> Collection[str]:
        return self.parts

    @property
    def allocations(self) -> dict[str, dict[str, int]]:
        try:
            return {uuid: _PART.decode(part).resources for uuid, part in self.parts.items()}
        except msgspec.MsgspecError:
            raise _nonsense() from None

    @property
    def mappings(self) -> dict[str, tuple[str, ...]]:
        try:
            return _MAPPINGS.decode(self.told)
        except msgspec.MsgspecError:
            raise _nonsense() from None


class _Provider(Summary, frozen=True, gc=False):
    """What is told besides, traits above all, is passed over."""

    root: str = msgspec.field(name="root_provider_uuid")


class _Answer(msgspec.Struct):
    allocation_requests: tuple[_Way, ...]
    provider_summaries: dict[str, _Provider]


_ANSWER = msgspec.json.Decoder(_Answer)
_PART = msgspec.json.Decoder(_Part)
_MAPPINGS = msgspec.json.Decoder(dict[str, tuple[str, ...]])
