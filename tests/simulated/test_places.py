"""Zones, aggregates, isolation, requested hosts, hints, NUMA nodes and devices in a whole cloud."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from typing import Any

import msgspec
import pytest

from kilonova.base.errors import Conflict
from kilonova.domain.fit.shapes import Device, Held, HostCell, HostShape, Pages
from kilonova.store import holds
from kilonova.virt.fake.world import PLENTY
from tests.simulated.conftest import Simulated

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

ALL = [f"fake-{number}" for number in range(1, 11)]
NO_HOST = "No valid host was found. There are not enough hosts available."
HOST = "OS-EXT-SRV-ATTR:host"


async def made(simulated: Simulated, count: int, **more: Any) -> list[dict[str, Any]]:
    """So many servers at once, when each has come to an end."""
    ids = await asyncio.gather(*(simulated.create(f"p{n}", "none", **more) for n in range(count)))
    return list(
        await asyncio.gather(*(simulated.becomes(one, "ACTIVE", "ERROR", within=90) for one in ids))
    )


def hosts(shown: list[dict[str, Any]]) -> Counter[str]:
    return Counter(s[HOST] for s in shown if s["status"] == "ACTIVE")


def ids(shown: list[dict[str, Any]]) -> list[str]:
    return [server["id"] for server in shown]


async def by_admin(simulated: Simulated, **server: Any) -> dict[str, Any]:
    """A server that an administrator makes, when it has come to an end."""
    body = {"name": "a", "imageRef": simulated.image, "flavorRef": "42", "networks": "none"}
    answer = await simulated.admin("POST", "/v2.1/servers", {"server": body | server})
    shown: dict[str, Any] = await simulated.becomes(answer["server"]["id"], "ACTIVE", "ERROR")
    return shown


async def gone(simulated: Simulated, *shown: dict[str, Any]) -> None:
    await simulated.clean()
    for server in shown:
        await simulated.admin("DELETE", f"/v2.1/servers/{server['id']}")
        await simulated.becomes(server["id"], "GONE")
    await simulated.clean()


async def test_zones(simulated: Simulated) -> None:
    number = await simulated.aggregate("east", {"availability_zone": "east"}, "fake-3", "fake-4")
    east = await made(simulated, 6, availability_zone="east")
    assert hosts(east).keys() <= {"fake-3", "fake-4"}
    assert {server["OS-EXT-AZ:availability_zone"] for server in east} == {"east"}
    rest = await made(simulated, 6, availability_zone="nova")
    assert not hosts(rest).keys() & {"fake-3", "fake-4"}
    assert sum(hosts(rest).values()) == 6
    body = {"name": "x", "imageRef": simulated.image, "flavorRef": "42", "networks": "none"}
    answer = await simulated.ask(
        "POST", "/v2.1/servers", json={"server": body | {"availability_zone": "moon"}}
    )
    assert answer.status == 400
    await simulated.end(*ids(east), *ids(rest))
    await simulated.dissolve(number, "fake-3", "fake-4")


async def test_an_aggregate_of_the_project(simulated: Simulated) -> None:
    server_id = await simulated.create("mine", "none")
    project = (await simulated.becomes(server_id, "ACTIVE"))["tenant_id"]
    number = await simulated.aggregate("mine", {"filter_tenant_id": project}, "fake-7", "fake-8")
    mine = await made(simulated, 6)
    assert hosts(mine).keys() <= {"fake-7", "fake-8"}
    assert sum(hosts(mine).values()) == 6
    await simulated.end(server_id, *ids(mine))
    await simulated.dissolve(number, "fake-7", "fake-8")


async def test_an_isolated_aggregate(simulated: Simulated) -> None:
    trait = "CUSTOM_SPECIAL"
    await simulated.mark("fake-6", trait)
    number = await simulated.aggregate("closed", {f"trait:{trait}": "required"}, "fake-6")
    plain = await made(simulated, 12)
    assert "fake-6" not in hosts(plain)
    assert sum(hosts(plain).values()) == 12
    flavor = await simulated.flavor("special", {f"trait:{trait}": "required"})
    special = await made(simulated, 2, flavorRef=flavor)
    assert hosts(special) == {"fake-6": 2}
    await simulated.end(*ids(plain), *ids(special))
    await simulated.dissolve(number, "fake-6")


async def test_an_aggregate_a_flavor_asks_for(simulated: Simulated) -> None:
    number = await simulated.aggregate("fast", {"ssd": "true"}, "fake-9")
    specs = {"aggregate_instance_extra_specs:ssd": "true"}
    found = await made(simulated, 3, flavorRef=await simulated.flavor("ssd", specs))
    assert hosts(found) == {"fake-9": 3}
    none = await simulated.flavor("hdd", {"aggregate_instance_extra_specs:ssd": "false"})
    (failed,) = await made(simulated, 1, flavorRef=none)
    assert failed["fault"]["message"] == NO_HOST
    await simulated.end(*ids(found), failed["id"])
    await simulated.dissolve(number, "fake-9")


async def test_requested_and_forced_hosts(simulated: Simulated) -> None:
    requested = await by_admin(simulated, host="fake-5")
    named = await by_admin(simulated, hypervisor_hostname="fake-2")
    forced = await by_admin(simulated, availability_zone="nova:fake-5")
    node = await by_admin(simulated, availability_zone="nova::fake-4")
    assert [s[HOST] for s in (requested, named, forced, node)] == [
        "fake-5",
        "fake-2",
        "fake-5",
        "fake-4",
    ]
    flavor = await simulated.flavor("nowhere", {"aggregate_instance_extra_specs:no": "such"})
    # A requested host must pass the filters, a forced one need not.
    refused = await by_admin(simulated, host="fake-5", flavorRef=flavor)
    assert refused["fault"]["message"] == NO_HOST
    taken = await by_admin(simulated, availability_zone="nova:fake-5", flavorRef=flavor)
    assert taken[HOST] == "fake-5"
    await gone(simulated, requested, named, forced, node, refused, taken)


async def test_hints_about_other_servers(simulated: Simulated) -> None:
    (first,) = await made(simulated, 1)
    hint = {"same_host": first["id"]}
    same = [await simulated.hinted(f"s{n}", hint, networks="none") for n in range(3)]
    hint = {"different_host": first["id"]}
    other = [await simulated.hinted(f"d{n}", hint, networks="none") for n in range(5)]
    for server_id in same:
        assert (await simulated.becomes(server_id, "ACTIVE"))[HOST] == first[HOST]
    for server_id in other:
        assert (await simulated.becomes(server_id, "ACTIVE"))[HOST] != first[HOST]
    await simulated.end(first["id"], *same, *other)


async def test_alternates_are_tried_and_no_more(simulated: Simulated) -> None:
    broken = Conflict("The disk is broken.")
    simulated.world.fails("spawn", times=2, error=broken)
    (lucky,) = await made(simulated, 1)
    assert lucky["status"] == "ACTIVE"
    simulated.world.heals()
    simulated.world.fails("spawn", times=3, error=broken)
    (failed,) = await made(simulated, 1)
    assert failed["status"] == "ERROR"
    assert "The disk is broken." in failed["fault"]["message"]
    simulated.world.heals()
    await simulated.end(lucky["id"], failed["id"])


def shape(devices: int) -> HostShape:
    """Two cells of four dedicated CPUs and some large pages; devices at the second."""
    return HostShape(
        cells=tuple(
            HostCell(
                n,
                4096,
                cpus=frozenset({100 + n}),
                pcpus=frozenset(range(n * 4, n * 4 + 4)),
                pages=(Pages(4, 1 << 19), Pages(2048, 128)),
            )
            for n in range(2)
        ),
        devices=tuple(
            Device(f"0000:0{n}:00.0", "10de", "1db6", numa_node=1) for n in range(1, devices + 1)
        ),
    )


async def held(simulated: Simulated) -> dict[str, tuple[Held, ...]]:
    (cell,) = simulated.conductor.sources.cells.real
    found: dict[str, tuple[Held, ...]] = await cell.db.read(holds.of_hosts, ALL)
    return found


async def test_pinned_guests_race(simulated: Simulated) -> None:
    for host in ("fake-1", "fake-2"):
        await simulated.offer(host, msgspec.structs.replace(PLENTY, pcpus=8, shape=shape(0)))
    specs = {"hw:cpu_policy": "dedicated", "hw:mem_page_size": "large"}
    flavor = await simulated.flavor("pinned", specs, vcpus=3)
    shown = await made(simulated, 8, flavorRef=flavor)
    # Each cell holds one guest of three CPUs.
    assert hosts(shown) == {"fake-1": 2, "fake-2": 2}
    for guests in (await held(simulated)).values():
        pins = [c for g in guests if g.topology for p in g.topology.cells for _, c in p.pins]
        assert len(pins) == len(set(pins)) == 6
    await simulated.end(*ids(shown))
    assert await held(simulated) == {}


async def test_devices_race(simulated: Simulated) -> None:
    for host in ("fake-1", "fake-2"):
        await simulated.offer(host, msgspec.structs.replace(PLENTY, pcpus=8, shape=shape(2)))
    specs = {"pci_passthrough:alias": "gpu:1", "hw:pci_numa_affinity_policy": "required"}
    flavor = await simulated.flavor("gpu", specs)
    shown = await made(simulated, 7, flavorRef=flavor)
    assert hosts(shown) == {"fake-1": 2, "fake-2": 2}
    for guests in (await held(simulated)).values():
        assert len({address for g in guests for address in g.devices["pci0"]}) == 2
    # A guest that needs CPUs at the devices' cell, of which there are three left for it.
    await simulated.end(*ids(shown))
    both = specs | {"hw:cpu_policy": "dedicated"}
    near = await simulated.flavor("near", both, vcpus=4)
    shown = await made(simulated, 3, flavorRef=near)
    assert hosts(shown) == {"fake-1": 1, "fake-2": 1}
    for guests in (await held(simulated)).values():
        (one,) = guests
        assert one.topology is not None
        assert one.topology.cells[0].host_cell == 1
    await simulated.end(*ids(shown))
    assert await held(simulated) == {}


@pytest.mark.parametrize(
    "specs",
    [
        {"hw:cpu_policy": "mixed"},
        {"hw:numa_nodes": "3"},
        {"hw:locked_memory": "true"},
        {"pci_passthrough:alias": "no:1"},
        {"hw:emulator_threads_policy": "isolate"},
    ],
)
async def test_flavors_that_contradict_themselves(
    simulated: Simulated, specs: dict[str, str]
) -> None:
    flavor = await simulated.flavor(f"bad-{uuid.uuid4()}", specs)
    body = {"name": "x", "imageRef": simulated.image, "flavorRef": flavor, "networks": "none"}
    answer = await simulated.ask("POST", "/v2.1/servers", json={"server": body})
    assert answer.status == 400, answer.text
    await simulated.clean()
