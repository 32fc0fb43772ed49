"""What operators change is told to Placement before they are answered, if it listens."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import msgspec

from kilonova.base.errors import Fault, NotFound, Unavailable
from kilonova.interfaces.placement import PlacementService
from kilonova.web.testing import Client
from tests.support.cloud import Cloud

NODE = "55555555-0000-4000-8000-000000000001"


class Told:
    """A Placement that remembers what it was told, or has no ear."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, list[str], list[str]]] = []
        self.fault: Fault | None = None

    async def set_aggregates(
        self, uuid: str, aggregates: Collection[str], *, owned: Collection[str]
    ) -> None:
        self._note(uuid, "aggregates", aggregates, owned)

    async def set_traits(
        self, uuid: str, traits: Collection[str], *, owned: Collection[str]
    ) -> None:
        self._note(uuid, "traits", traits, owned)

    def _note(self, uuid: str, what: str, wanted: Collection[str], owned: Collection[str]) -> None:
        if self.fault is not None:
            raise self.fault
        self.heard.append((uuid, what, sorted(wanted), sorted(owned)))


def client(cloud: Cloud, told: Told) -> Client:
    placement = cast(PlacementService, told)
    app = cloud.build(msgspec.structs.replace(cloud.services, placement=placement))
    return Client(app, token="admin", version="2.90")


async def done(admin: Client, method: str, path: str, **body: Any) -> Any:
    answer = await getattr(admin, method)(path, json=body)
    assert answer.status == 200, answer.text
    return answer.json()


async def test_hosts_of_aggregates(cloud: Cloud) -> None:
    told = Told()
    admin = client(cloud, told)
    made = await done(admin, "post", "/v2.1/os-aggregates", aggregate={"name": "a"})
    number, uuid = made["aggregate"]["id"], made["aggregate"]["uuid"]
    path = f"/v2.1/os-aggregates/{number}/action"
    await done(admin, "post", path, add_host={"host": "h1"})
    await done(admin, "post", path, remove_host={"host": "h1"})
    # Of other aggregates nothing is said: somebody else may be adding them just now.
    assert told.heard == [(NODE, "aggregates", [uuid], []), (NODE, "aggregates", [], [uuid])]


async def test_services(cloud: Cloud) -> None:
    told = Told()
    admin = client(cloud, told)
    shown = (await admin.get("/v2.1/os-services?binary=nova-compute")).json()["services"]
    path = f"/v2.1/os-services/{shown[0]['id']}"
    trait = "COMPUTE_STATUS_DISABLED"
    await done(admin, "put", path, status="disabled")
    await done(admin, "put", path, forced_down=True)
    await done(admin, "put", path, status="enabled", forced_down=False)
    assert told.heard == [(NODE, "traits", [trait], [trait]), (NODE, "traits", [], [trait])]


async def test_what_placement_does_not_hear_is_done_all_the_same(cloud: Cloud) -> None:
    told = Told()
    admin = client(cloud, told)
    made = await done(admin, "post", "/v2.1/os-aggregates", aggregate={"name": "a"})
    path = f"/v2.1/os-aggregates/{made['aggregate']['id']}/action"
    told.fault = Unavailable("Placement does not answer.")
    shown = await done(admin, "post", path, add_host={"host": "h1"})
    assert shown["aggregate"]["hosts"] == ["h1"]
    told.fault = NotFound("no such provider")
    assert (await done(admin, "post", path, remove_host={"host": "h1"}))["aggregate"]["hosts"] == []
