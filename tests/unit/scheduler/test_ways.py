"""Which of the ways to claim a host is taken, where they differ by their devices."""

from __future__ import annotations

import msgspec

from kilonova.base.clock import VirtualClock
from kilonova.domain.fit.host import Wanted
from kilonova.domain.fit.shapes import (
    Device,
    DeviceRequest,
    DeviceSpec,
    GuestCell,
    GuestTopology,
    Held,
    HostCell,
    HostShape,
    Pages,
)
from kilonova.domain.request import HostRef, RequestSpec, Selection
from kilonova.interfaces.placement import Way
from kilonova.scheduler.recent import Recent
from kilonova.scheduler.service import fitting
from tests.support.scheduling import host, request

CELLS = tuple(HostCell(n, 4096, cpus=frozenset({n}), pages=(Pages(4, 1 << 19),)) for n in (0, 1))
DEVICES = tuple(
    Device(f"0000:0{n}:00.0", "10de", "1db6", numa_node=n, provider=f"d{n}") for n in (0, 1)
)


def way(device: str, root: str = "p") -> Way:
    return Way({root: {"VCPU": 1}, device: {"CUSTOM_PCI_10DE_1DB6": 1}}, {"_pci0-0": (device,)})


def asked(policy: str, *, cells: bool = True, server: str = "s1") -> RequestSpec:
    guest = GuestTopology((GuestCell(0, 64, cpus=frozenset({0})),)) if cells else None
    one = DeviceRequest("pci0", 1, (DeviceSpec("10de", "1db6"),), policy)
    return request(servers=(server,), shape=Wanted(guest, (one,)))


def test_devices_near_the_guest() -> None:
    state = host("h", provider="p", shape=HostShape(CELLS, DEVICES))
    both = [way("d0"), way("d1")]
    assert fitting(asked("required"), state, both) == both
    pinned = tuple(msgspec.structs.replace(c, cpus=c.cpus if c.id else frozenset()) for c in CELLS)
    far = host("h", provider="p", shape=HostShape(pinned, DEVICES))
    assert fitting(asked("required"), far, both) == [way("d1")]
    assert fitting(asked("preferred"), far, both) == both
    assert fitting(asked("required", cells=False), far, both) == both


def test_devices_the_records_know_as_given() -> None:
    held = (Held(None, {"pci0": ("0000:00:00.0",)}),)
    state = host("h", provider="p", shape=HostShape(CELLS, DEVICES), held=held)
    assert fitting(asked("legacy"), state, [way("d0"), way("d1")]) == [way("d1")]
    # What cannot be is refused where it is written, with a reason.
    full = host("h", provider="p", shape=HostShape(CELLS))
    assert len(fitting(asked("legacy"), full, [way("d0"), way("d1")])) == 2


async def test_devices_somebody_was_just_sent_to() -> None:
    clock = VirtualClock()
    recent = Recent(clock, seconds=3.0)
    ways = {"p": [way("d0"), way("d1")], "q": [way("d2", "q")]}
    assert recent.ways(asked("legacy"), ways) is ways
    for server, device, root in (("s1", "d0", "p"), ("s2", "d2", "q")):
        ref = HostRef(root, root, root, "c", way(device, root).allocations)
        recent.note(asked("legacy", server=server), Selection(servers=((ref,),)))
    other = asked("legacy", server="s3")
    assert recent.ways(other, ways) == {"p": [way("d1")]}
    # A server may have again what was chosen for itself.
    assert recent.ways(asked("legacy", server="s2"), ways) == {
        "p": [way("d1")],
        "q": [way("d2", "q")],
    }
    await clock.advance(4)
    assert recent.ways(other, ways) is ways


def test_plain_claims_leave_nothing_to_avoid() -> None:
    recent = Recent(VirtualClock())
    plain = Way({"p": {"VCPU": 1}})
    ref = HostRef("p", "p", "p", "c", plain.allocations)
    recent.note(request(servers=("s1",)), Selection(servers=((ref,),)))
    ways = {"p": [plain]}
    assert recent.ways(request(servers=("s2",)), ways) is ways
