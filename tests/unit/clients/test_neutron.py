"""What a network service is told of a server's ports."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from kilonova.clients.keystone import Endpoint
from kilonova.clients.neutron import Neutron
from kilonova.interfaces.network import NewPort
from kilonova.web.client import Answer

PORT = {"id": "p", "network_id": "n", "mac_address": "fa:16:3e:00:00:01"}

NETWORKS = [
    {"id": "own", "tenant_id": "p", "shared": False},
    {"id": "lent", "tenant_id": "q", "shared": True},
    {"id": "mine for all", "tenant_id": "p", "shared": True},
    {"id": "outside", "tenant_id": "q", "shared": False, "router:external": True},
]


def _shown(network: dict[str, Any], asked: dict[str, Any]) -> bool:
    return all(network[name] == value for name, value in asked.items())


class Network:
    """Takes every port; remembers what was written."""

    def __init__(self, *extensions: str) -> None:
        self.extensions = [{"alias": alias} for alias in extensions]
        self.asked: list[str] = []
        self.written: list[dict[str, Any]] = []

    async def request(
        self, method: str, path: str, *, json: Any = None, params: Any = None, token: Any = None
    ) -> Answer:
        self.asked.append(path)
        doc: Any = {"port": PORT}
        if path == "/v2.0/extensions":
            doc = {"extensions": self.extensions}
        elif path == "/v2.0/networks":
            doc = {"networks": [one for one in NETWORKS if _shown(one, params or {})]}
        elif method != "GET":
            self.written.append(json["port"])
        status = 201 if method == "POST" else 200
        return Answer(status, CIMultiDictProxy(CIMultiDict()), msgspec.json.encode(doc))


@pytest.mark.parametrize("known", [True, False])
async def test_ports_have_their_servers_name_where_names_are_known(*, known: bool) -> None:
    service = Network(*(["dns-integration"] if known else ["router"]))
    networks = Neutron(cast(Endpoint, service))
    new = NewPort("0", "n", "p", "s", first=True)
    await networks.create_port(new)
    await networks.create_port(msgspec.structs.replace(new, dns_name="web"))
    await networks.claim_port("p", server_id="s", availability_zone="nova", dns_name="web")
    await networks.unbind_port("p")
    names = [port.get("dns_name") for port in service.written]
    assert names == ([None, "web", "web", ""] if known else [None] * 4)
    assert service.asked.count("/v2.0/extensions") == 1


async def test_a_port_leaves_its_host_but_not_its_server() -> None:
    service = Network()
    await Neutron(cast(Endpoint, service)).leave_host("p")
    assert service.written == [{"binding:host_id": ""}]


@pytest.mark.parametrize("sees_all", [True, False])
async def test_own_and_shared_networks_are_usable_whoever_asks(*, sees_all: bool) -> None:
    service = Network()
    networks = Neutron(cast(Endpoint, service))
    found = await networks.networks(token="t", project_id="p", sees_all=sees_all)
    assert [one.id for one in found] == ["own", "lent", "mine for all"]
    assert service.asked == ["/v2.0/networks"] * (2 if sees_all else 1)
