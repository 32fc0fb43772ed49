"""PCI devices that Placement knows, in a whole cloud: told, claimed, given, given back."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from kilonova.domain.fit.shapes import Device, Held, HostCell, HostShape, Pages
from kilonova.interfaces.placement import PlacementService
from kilonova.store import holds
from kilonova.virt.fake.world import PLENTY
from tests.simulated.conftest import OWN, Simulated, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

HOST = "OS-EXT-SRV-ATTR:host"
IN_PLACEMENT = """report_in_placement = true
alias = {"name": "fast", "resource_class": "gpu", "traits": "fast"}
"""


@pytest.fixture(scope="module")
def own() -> dict[str, str]:
    """PCI devices in Placement, on both sides."""
    text = OWN.replace("[filter_scheduler]", "[filter_scheduler]\npci_in_placement = true")
    return {"kilonova.conf": text + IN_PLACEMENT}


def device(bus: int, **tags: str) -> Device:
    return Device(f"0000:0{bus}:00.0", "10de", "1db6", numa_node=1, tags=tags)


def shape(*devices: Device) -> HostShape:
    cells = tuple(
        HostCell(n, 4096, cpus=frozenset({n}), pages=(Pages(4, 1 << 19),)) for n in range(2)
    )
    return HostShape(cells=cells, devices=devices)


def placement_of(simulated: Simulated) -> PlacementService:
    placement = simulated.conductor.sources.placement
    assert placement is not None
    return placement


async def node(simulated: Simulated, host: str) -> str:
    shown = await simulated.admin("GET", f"/v2.1/os-hypervisors?hypervisor_hostname_pattern={host}")
    (uuid,) = [h["id"] for h in shown["hypervisors"] if h["hypervisor_hostname"] == host]
    return str(uuid)


async def devices(simulated: Simulated, host: str) -> dict[str, str]:
    """Name → uuid of the providers below a host's."""
    below = await placement_of(simulated).children(await node(simulated, host))
    return {name: uuid for uuid, name in below.items()}


async def made(simulated: Simulated, count: int, **more: Any) -> list[dict[str, Any]]:
    ids = await asyncio.gather(*(simulated.create(f"d{n}", "none", **more) for n in range(count)))
    return list(await asyncio.gather(*(simulated.becomes(i, "ACTIVE", "ERROR") for i in ids)))


async def held(simulated: Simulated, *hosts: str) -> dict[str, tuple[Held, ...]]:
    (cell,) = simulated.conductor.sources.cells.real
    found: dict[str, tuple[Held, ...]] = await cell.db.read(holds.of_hosts, hosts)
    return found


async def offer(simulated: Simulated, host: str, *given: Device) -> None:
    await simulated.offer(host, msgspec.structs.replace(PLENTY, shape=shape(*given)))


async def test_devices_are_told(simulated: Simulated) -> None:
    placement = placement_of(simulated)
    virtual = Device("0000:03:00.2", "8086", "1520", type="type-VF", parent="0000:03:00.0")
    nic = device(4, physical_network="physnet")
    fast = device(2, resource_class="gpu", traits="fast,HW_NIC_SRIOV")
    await offer(simulated, "fake-1", device(1), fast, virtual, nic)
    found = await devices(simulated, "fake-1")
    assert sorted(found) == [f"fake-1_0000:0{n}:00.0" for n in (1, 2, 3)]
    one, two, three = (found[name] for name in sorted(found))
    assert {n: i.total for n, i in (await placement.inventory(one)).items()} == {
        "CUSTOM_PCI_10DE_1DB6": 1
    }
    assert (await placement.inventory(two)).keys() == {"CUSTOM_GPU"}
    assert (await placement.inventory(three)).keys() == {"CUSTOM_PCI_8086_1520"}
    marks = {"COMPUTE_MANAGED_PCI_DEVICE", "OWNER_NOVA"}
    assert await placement.traits(one) == marks
    assert await placement.traits(two) == marks | {"CUSTOM_FAST", "HW_NIC_SRIOV"}
    # A device that is taken out goes; the others keep their ids.
    await offer(simulated, "fake-1", fast)
    assert await devices(simulated, "fake-1") == {"fake-1_0000:02:00.0": two}
    await offer(simulated, "fake-1")
    assert await devices(simulated, "fake-1") == {}


async def test_devices_are_claimed_and_given(simulated: Simulated) -> None:
    placement = placement_of(simulated)
    for host in ("fake-2", "fake-3"):
        await offer(simulated, host, device(1), device(2))
    flavor = await simulated.flavor("gpu", {"pci_passthrough:alias": "gpu:1"})
    shown = await made(simulated, 5, flavorRef=flavor)
    active = [server for server in shown if server["status"] == "ACTIVE"]
    assert sorted(server[HOST] for server in active) == ["fake-2", "fake-2", "fake-3", "fake-3"]
    given = await held(simulated, "fake-2", "fake-3")
    for host, guests in given.items():
        providers = await devices(simulated, host)
        # Who has a device by the records has it in Placement.
        addresses = [address for guest in guests for address in guest.devices["pci0"]]
        assert sorted(addresses) == ["0000:01:00.0", "0000:02:00.0"]
        for address in addresses:
            users = await placement.allocations_for_provider(providers[f"{host}_{address}"])
            assert list(users.values()) == [{"CUSTOM_PCI_10DE_1DB6": 1}]
    await simulated.end(*(server["id"] for server in shown))
    for host in ("fake-2", "fake-3"):
        for uuid in (await devices(simulated, host)).values():
            assert await placement.allocations_for_provider(uuid) == {}


async def test_a_device_by_class_and_trait(simulated: Simulated) -> None:
    await offer(simulated, "fake-4", device(1, resource_class="gpu"), device(2))
    await offer(
        simulated, "fake-5", device(1), device(2, resource_class="gpu", traits="CUSTOM_FAST")
    )
    flavor = await simulated.flavor("fast", {"pci_passthrough:alias": "fast:1"})
    shown = await made(simulated, 2, flavorRef=flavor)
    assert sorted(server["status"] for server in shown) == ["ACTIVE", "ERROR"]
    (guests,) = (await held(simulated, "fake-4", "fake-5")).values()
    assert [guest.devices for guest in guests] == [{"pci0": ("0000:02:00.0",)}]
    await simulated.end(*(server["id"] for server in shown))


async def test_a_host_goes_with_its_devices(simulated: Simulated) -> None:
    await offer(simulated, "fake-10", device(1))
    placement, root = placement_of(simulated), await node(simulated, "fake-10")
    assert len(await placement.children(root)) == 1
    await simulated.stop_agent("fake-10")
    shown = await simulated.admin("GET", "/v2.1/os-services?binary=nova-compute&host=fake-10")
    (service,) = shown["services"]
    await simulated.admin("DELETE", f"/v2.1/os-services/{service['id']}")

    async def gone() -> bool:
        return not await placement.children(root) and not await placement.inventory(root)

    await until(gone, within=10, what="providers of fake-10")
