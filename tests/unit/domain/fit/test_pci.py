"""Aliases, specifications, and who gets which device."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilonova.base.errors import BadRequest
from kilonova.domain.fit.pci import (
    Place,
    aliases,
    give,
    place_of,
    requests,
    resource_class,
    selected,
)
from kilonova.domain.fit.shapes import Device, DeviceRequest, DeviceSpec, HostCell, NoFit

NIC = {"vendor_id": "8086", "product_id": "1515"}
ANYWHERE = Place()


def alias(**fields: str) -> str:
    return json.dumps({"name": "a1", **NIC} | fields)


def device(number: int, kind: str = "type-PCI", /, **more: object) -> Device:
    fields = {
        "address": f"0000:0a:00.{number}",
        "vendor_id": "8086",
        "product_id": "1515",
        "type": kind,
    }
    return Device(**(fields | more))  # type: ignore[arg-type]


def want(count: int = 1, policy: str = "legacy", name: str = "r", **spec: str) -> DeviceRequest:
    return DeviceRequest(name, count, (DeviceSpec(**spec),), policy)  # type: ignore[arg-type]


# -- what is asked for -----------------------------------------------------------------------------


def test_an_alias_may_have_several_kinds() -> None:
    known = aliases([alias(), alias(product_id="1516"), alias(name="gpu", numa_policy="required")])
    assert [spec.product_id for spec in known["a1"].specs] == ["1515", "1516"]
    asked = requests({"pci_passthrough:alias": "a1:2, gpu:1"}, {}, known)
    assert [(one.alias, one.count, one.policy) for one in asked] == [
        ("a1", 2, "legacy"),
        ("gpu", 1, "required"),
    ]
    assert requests({}, {}, known) == ()


def test_flavor_and_image_overrule_the_alias_about_numa() -> None:
    known = aliases([alias(numa_policy="required")])
    specs = {"pci_passthrough:alias": "a1:1", "hw:pci_numa_affinity_policy": "socket"}
    assert requests(specs, {}, known)[0].policy == "socket"
    image = {"hw_pci_numa_affinity_policy": "preferred"}
    assert requests({"pci_passthrough:alias": "a1:1"}, image, known)[0].policy == "preferred"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("b:1", "PciRequestAliasNotDefined"),
        ("a1", "PciInvalidAlias"),
        ("a1:x", "PciInvalidAlias"),
        ("a1:1;b:2", "PciInvalidAlias"),
    ],
)
def test_wrong_requests(text: str, code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        requests({"pci_passthrough:alias": text}, {}, aliases([alias()]))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "texts",
    [
        ["x"],
        ['{"vendor_id": "8086"}'],
        [alias(vendor_id="80")],
        [alias(device_type="type-X")],
        [alias(numa_policy="near")],
        [alias(colour="red")],
        [alias(), alias(numa_policy="required")],
        [alias(), alias(device_type="type-PF")],
    ],
)
def test_wrong_aliases(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"JSON|PCI|hex"):
        aliases(texts)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (DeviceSpec("8086", "1a2b"), "CUSTOM_PCI_8086_1A2B"),
        (DeviceSpec(resource_class="CUSTOM_GPU"), "CUSTOM_GPU"),
        (DeviceSpec(resource_class="my-gpu"), "CUSTOM_MY_GPU"),
        (DeviceSpec(resource_class="PGPU"), "PGPU"),
    ],
)
def test_what_a_device_is_in_placement(spec: DeviceSpec, name: str) -> None:
    assert resource_class(spec) == name


# -- what may be given -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ({"vendor_id": "8086", "product_id": "1515"}, True),
        ({"vendor_id": "8086"}, True),
        ({"vendor_id": "*", "product_id": "*"}, True),
        ({"product_id": "1516"}, False),
        ({"address": "0000:0a:00.1"}, True),
        ({"address": "0000:0a:00.*"}, True),
        ({"address": "*:0a:*"}, True),
        ({"address": "0a:00.2"}, False),
        ({"address": "0000:0b:00.1"}, False),
        ({"address": {"bus": "0[ab]", "function": "[0-3]"}}, True),
        ({"address": {"function": "[2-3]"}}, False),
    ],
)
def test_device_specifications(spec: dict[str, object], meant: bool) -> None:
    assert (selected(device(1), [spec]) is not None) is meant


def test_the_first_specification_gives_the_tags() -> None:
    specs: list[dict[str, object]] = [
        {"address": "0000:0a:00.7"},
        {"vendor_id": "8086", "physical_network": "net1", "trusted": True},
        {"vendor_id": "8086", "physical_network": "net2"},
    ]
    assert selected(device(1), specs) == {"physical_network": "net1", "trusted": "True"}
    assert selected(device(1), []) is None
    virtual = device(1, "type-VF", parent="0000:0a:00.7")
    assert selected(virtual, specs) == {}


# -- what is given ---------------------------------------------------------------------------------


def test_as_many_as_are_free() -> None:
    devices = [device(0), device(1)]
    assert give(devices, (), [want(2)], ANYWHERE) == {"r": ("0000:0a:00.0", "0000:0a:00.1")}
    assert give(devices, ["0000:0a:00.0"], [want(1)], ANYWHERE) == {"r": ("0000:0a:00.1",)}
    assert isinstance(give(devices, ["0000:0a:00.0"], [want(2)], ANYWHERE), NoFit)
    assert give(devices, (), [], ANYWHERE) == {}
    assert isinstance(give(devices, (), [want(product_id="1516")], ANYWHERE), NoFit)


def test_requests_do_not_take_what_another_needs() -> None:
    devices = [device(0, product_id="1515"), device(1, product_id="1516")]
    wanted = [want(name="any"), want(name="one", product_id="1515")]
    assert give(devices, (), wanted, ANYWHERE) == {
        "any": ("0000:0a:00.1",),
        "one": ("0000:0a:00.0",),
    }


def test_functions_and_their_parents_exclude_each_other() -> None:
    parent = device(0, "type-PF")
    devices = [parent, *(device(n, "type-VF", parent=parent.address) for n in (1, 2))]
    physical, virtual = (
        want(name="pf", device_type="type-PF"),
        want(name="vf", device_type="type-VF"),
    )
    assert give(devices, (), [physical], ANYWHERE) == {"pf": (parent.address,)}
    assert isinstance(give(devices, (), [physical, virtual], ANYWHERE), NoFit)
    assert isinstance(give(devices, ["0000:0a:00.1"], [physical], ANYWHERE), NoFit)
    assert isinstance(give(devices, [parent.address], [virtual], ANYWHERE), NoFit)
    assert give(devices, ["0000:0a:00.1"], [virtual], ANYWHERE) == {"vf": ("0000:0a:00.2",)}
    # A PF is given only to those that ask for one.
    assert give(devices, (), [want(2)], ANYWHERE) == {"r": ("0000:0a:00.1", "0000:0a:00.2")}
    assert isinstance(give(devices, (), [want(3)], ANYWHERE), NoFit)


@pytest.mark.parametrize(
    ("policy", "nodes", "fits"),
    [
        ("required", [0], True),
        ("required", [1], False),
        ("required", [None], False),
        ("legacy", [0], True),
        ("legacy", [1], False),
        ("legacy", [None], True),
        ("preferred", [2], True),
        ("preferred", [None], True),
        ("socket", [1], True),
        ("socket", [2], False),
        ("socket", [None], False),
    ],
)
def test_numa_policies(policy: str, nodes: list[int | None], fits: bool) -> None:
    cells = [HostCell(n, 1, socket=socket) for n, socket in enumerate((0, 0, 1))]
    devices = [device(n, numa_node=node) for n, node in enumerate(nodes)]
    found = give(devices, (), [want(policy=policy)], place_of(cells, frozenset({0})))
    assert isinstance(found, dict) is fits
    assert isinstance(give(devices, (), [want(policy=policy)], place_of(cells, None)), dict)


def test_near_devices_come_first() -> None:
    devices = [device(0, numa_node=1), device(1), device(2, numa_node=0)]
    at = Place(frozenset({0}))
    assert give(devices, (), [want(policy="preferred")], at) == {"r": ("0000:0a:00.2",)}
    assert give(devices, (), [want()], ANYWHERE) == {"r": ("0000:0a:00.1",)}


def test_placement_may_have_chosen() -> None:
    devices = [device(0, provider="p0"), device(1, provider="p1"), device(2, provider="p1")]
    chosen = {"r": ["p1", "p1"]}
    assert give(devices, (), [want(2)], ANYWHERE, providers=chosen) == {
        "r": ("0000:0a:00.1", "0000:0a:00.2")
    }
    chosen = {"r": ["p0", "p0"]}
    assert isinstance(give(devices, (), [want(2)], ANYWHERE, providers=chosen), NoFit)


def test_tags() -> None:
    live = device(1, tags={"live_migratable": "yes"})
    asked = DeviceRequest("r", 1, (DeviceSpec(tags={"live_migratable": "true"}),))
    assert isinstance(give([device(0)], (), [asked], ANYWHERE), NoFit)
    assert give([device(0), live], (), [asked], ANYWHERE) == {"r": (live.address,)}


@st.composite
def hosts(draw: st.DrawFn) -> list[Device]:
    made: list[Device] = []
    for number in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["type-PCI", "type-PF", "type-VF"]))
        parents = [d.address for d in made if d.type == "type-PF"]
        parent = draw(st.sampled_from(parents)) if kind == "type-VF" and parents else None
        made.append(
            device(
                number,
                kind,
                parent=parent,
                product_id=draw(st.sampled_from(["a", "b"])),
                numa_node=draw(st.sampled_from([None, 0, 1])),
            )
        )
    return made


@st.composite
def asks(draw: st.DrawFn) -> list[DeviceRequest]:
    kinds = st.builds(
        DeviceSpec,
        product_id=st.sampled_from(["", "a", "b"]),
        device_type=st.sampled_from(["", "type-PF", "type-VF"]),
    )
    return [
        DeviceRequest(
            f"r{number}",
            draw(st.integers(1, 2)),
            tuple(draw(st.lists(kinds, min_size=1, max_size=2))),
            draw(st.sampled_from(["legacy", "required", "preferred"])),
        )
        for number in range(draw(st.integers(1, 3)))
    ]


@settings(max_examples=150, deadline=None)
@given(hosts(), st.data(), asks(), st.sampled_from([None, frozenset({0})]))
def test_sound_and_complete(
    devices: list[Device],
    data: st.DataObject,
    wanted: list[DeviceRequest],
    cells: frozenset[int] | None,
) -> None:
    taken = data.draw(st.sets(st.sampled_from([d.address for d in devices]), max_size=2))
    units = [request for request in wanted for _ in range(request.count)]
    found = give(devices, taken, wanted, Place(cells))
    if isinstance(found, NoFit):
        assert not any(
            right(devices, taken, units, chosen, cells)
            for chosen in itertools.permutations(devices, len(units))
        )
        return
    by_address = {d.address: d for d in devices}
    chosen = [by_address[a] for request in wanted for a in found[request.id]]
    assert right(devices, taken, units, chosen, cells)


def right(
    devices: list[Device],
    taken: set[str],
    units: list[DeviceRequest],
    chosen: list[Device] | tuple[Device, ...],
    cells: frozenset[int] | None,
) -> bool:
    """Whether each unit may have its device, all together."""
    held = {*taken, *(d.address for d in chosen)}
    if len(held) != len(taken) + len(units):
        return False
    for request, one in zip(units, chosen, strict=True):
        if one.parent in held:
            return False
        if any(d.parent == one.address and d.address in held for d in devices):
            return False
        if not any(
            s.product_id in ("", one.product_id)
            and one.type in ([s.device_type] if s.device_type else ["type-PCI", "type-VF"])
            for s in request.specs
        ):
            return False
        near = cells is None or one.numa_node in cells
        unknown = request.policy == "legacy" and one.numa_node is None
        if not (near or unknown or request.policy == "preferred"):
            return False
    return True
