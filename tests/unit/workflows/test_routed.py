"""Which hosts reach the segments of the networks a server is to have cards on."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from kilonova.clients.keystone import Endpoint
from kilonova.clients.neutron import Neutron
from kilonova.domain.server import WantedNic
from kilonova.interfaces.placement import PlacementService
from kilonova.web.client import Answer
from kilonova.workflows import routed

SUBNETS: dict[str, list[tuple[str, str | None]]] = {
    "flat": [("f1", None)],
    "wide": [("w1", "s1"), ("w2", "s2"), ("w3", "s2")],
    "far": [("x1", "s9")],
}
PORTS: dict[str, list[str]] = {"fixed": ["w2"], "free": []}
PROVIDERS = {"s1": {"a1"}, "s2": {"a2", "a3"}}


class Network:
    """The answers of a network service with segments."""

    async def request(self, method: str, path: str, *, params: Any, token: None) -> Answer:
        assert method == "GET"
        if path == "/v2.0/subnets":
            rows = SUBNETS[params["network_id"]]
            doc: Any = {"subnets": [{"id": one, "segment_id": segment} for one, segment in rows]}
        else:
            doc = {
                "ports": [
                    {
                        "id": one,
                        "network_id": "wide",
                        "mac_address": "fa:16:3e:00:00:01",
                        "fixed_ips": [
                            {"ip_address": "10.0.0.1", "subnet_id": subnet} for subnet in PORTS[one]
                        ],
                    }
                    for one in params["id"]
                ]
            }
        return Answer(200, CIMultiDictProxy(CIMultiDict()), msgspec.json.encode(doc))


class Placement:
    async def aggregates(self, uuid: str) -> frozenset[str]:
        return frozenset(PROVIDERS.get(uuid, ()))


async def reached(*nics: WantedNic) -> tuple[tuple[str, ...], ...]:
    networks = Neutron(cast(Endpoint, Network()))
    return await routed.aggregates(networks, cast(PlacementService, Placement()), nics)


async def test_networks_without_segments_are_everywhere() -> None:
    assert await reached(WantedNic("0", network_id="flat"), WantedNic("1", auto=True)) == ()


async def test_any_segment_of_a_network_will_do() -> None:
    wide = WantedNic("0", network_id="wide")
    assert await reached(wide, msgspec.structs.replace(wide, mark="1")) == (("a1", "a2", "a3"),)
    assert await reached(WantedNic("0", port_id="free")) == (("a1", "a2", "a3"),)


async def test_a_port_with_addresses_is_bound_to_their_segments() -> None:
    fixed = WantedNic("0", port_id="fixed")
    assert await reached(fixed) == (("a2", "a3"),)
    both = await reached(fixed, WantedNic("1", network_id="wide"))
    assert sorted(both) == [("a1", "a2", "a3"), ("a2", "a3")]


async def test_a_segment_nobody_reaches() -> None:
    assert await reached(WantedNic("0", network_id="far")) == ((),)
