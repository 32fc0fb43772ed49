"""Which PCI devices a guest asks for, which of a host's may be given, and which it gets."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from kilonova.base.errors import BadRequest
from kilonova.domain.fit.shapes import Device, DeviceRequest, DeviceSpec, HostCell, NoFit
from kilonova.domain.fit.wanted import AFFINITIES, pci_policy

Words = Mapping[str, str]

TYPES = ("type-PCI", "type-PF", "type-VF", "vdpa")
_ID = re.compile(r"[0-9a-fA-F]{4}")
_LIST = re.compile(r"[^:]+:\d+(?:\s*,\s*[^:]+:\d+)*")
_KNOWN = frozenset(
    {
        "name",
        "vendor_id",
        "product_id",
        "device_type",
        "capability_type",
        "numa_policy",
        "resource_class",
        "traits",
        "live_migratable",
    }
)
ASKED = "pci_passthrough:alias"
_MOST_STEPS = 20_000


class Alias(msgspec.Struct, frozen=True):
    """A name for kinds of devices, one of which each device must be."""

    name: str
    specs: tuple[DeviceSpec, ...]
    policy: str | None = None


# -- what is asked for -----------------------------------------------------------------------------


def aliases(texts: Iterable[str]) -> dict[str, Alias]:
    """``[pci] alias``: one JSON object each; the same name again is another kind that would do.

    ValueError says what is wrong with which.
    """
    found: dict[str, Alias] = {}
    for text in texts:
        one = _alias(text)
        before = found.get(one.name)
        if before is None:
            found[one.name] = one
            continue
        if before.policy != one.policy:
            raise ValueError(f"the PCI alias {one.name} has two NUMA policies")
        if before.specs[0].device_type != one.specs[0].device_type:
            raise ValueError(f"the PCI alias {one.name} has two device types")
        found[one.name] = msgspec.structs.replace(before, specs=before.specs + one.specs)
    return found


def _alias(text: str) -> Alias:
    try:
        fields = msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise ValueError(f"{text!r} is no JSON object of texts: {error}") from None
    unknown = sorted(fields.keys() - _KNOWN)
    if unknown or not fields.get("name"):
        raise ValueError(f"the PCI alias {text!r} has no name or unknown keys: {unknown}")
    for key in ("vendor_id", "product_id"):
        if key in fields and not _ID.fullmatch(fields[key]):
            raise ValueError(f"{key} {fields[key]!r} of a PCI alias is not four hex digits")
    if fields.get("device_type", "type-PCI") not in TYPES:
        raise ValueError(f"{fields['device_type']!r} is no type of PCI devices")
    if fields.get("numa_policy", "legacy") not in AFFINITIES:
        raise ValueError(f"{fields['numa_policy']!r} is no PCI NUMA policy")
    tags = {"live_migratable": fields["live_migratable"]} if "live_migratable" in fields else {}
    spec = DeviceSpec(
        vendor_id=fields.get("vendor_id", "").lower(),
        product_id=fields.get("product_id", "").lower(),
        device_type=fields.get("device_type", ""),
        tags=tags,
        resource_class=fields.get("resource_class", ""),
        traits=tuple(part.strip() for part in fields.get("traits", "").split(",") if part.strip()),
    )
    return Alias(fields["name"], (spec,), fields.get("numa_policy"))


def requests(
    specs: Words, properties: Words, known: Mapping[str, Alias]
) -> tuple[DeviceRequest, ...]:
    """What the extra spec ``pci_passthrough:alias`` (``a1:2,a2:1``) asks for. BadRequest."""
    policy = pci_policy(specs, properties)
    text = specs.get(ASKED)
    if not text:
        return ()
    if not _LIST.fullmatch(text.strip()):
        raise BadRequest(
            f"{ASKED} {text!r} is not of the form name:count.",
            code="PciInvalidAlias",
        )
    made = []
    for number, part in enumerate(text.split(",")):
        name, _, count = part.strip().rpartition(":")
        alias = known.get(name)
        if alias is None:
            raise BadRequest(f"PCI alias {name} is not defined.", code="PciRequestAliasNotDefined")
        made.append(
            DeviceRequest(
                id=f"pci{number}",
                count=int(count),
                specs=alias.specs,
                policy=policy or alias.policy or "legacy",
                alias=name,
            )
        )
    return tuple(made)


def group_names(request: DeviceRequest) -> list[str]:
    """What each of its devices is called in a search for candidates."""
    return [f"_{request.id}-{number}" for number in range(request.count)]


def chosen(
    wanted: Sequence[DeviceRequest], mappings: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Request → the provider of each of its devices, of requests that Placement has decided.

    ``mappings``: group of the search → provider uuids.
    """
    found = {}
    for request in wanted:
        names = group_names(request)
        if all(mappings.get(name) for name in names):
            found[request.id] = [mappings[name][0] for name in names]
    return found


def resource_class(spec: DeviceSpec) -> str:
    """What a device of that kind is in Placement (``CUSTOM_PCI_8086_1515``)."""
    if spec.resource_class:
        name = re.sub(r"[^A-Z0-9]+", "_", spec.resource_class.upper())
        return name if name.startswith("CUSTOM_") or name in _STANDARD else f"CUSTOM_{name}"
    return f"CUSTOM_PCI_{spec.vendor_id}_{spec.product_id}".upper()


_STANDARD = frozenset({"VGPU", "PGPU", "SRIOV_NET_VF", "PCI_DEVICE", "FPGA"})


# -- what may be given -----------------------------------------------------------------------------


def selected(device: Device, specs: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """The tags of the first of ``[pci] device_spec`` that means the device; None when none does.

    ``address`` is a text with ``*``, or a table of regular expressions for domain, bus, slot and
    function; ``physical_network`` and other tags are what the operator says of the devices.
    """
    for spec in specs:
        if (
            _is(spec.get("vendor_id", "*"), device.vendor_id)
            and _is(spec.get("product_id", "*"), device.product_id)
            and _addressed(spec.get("address", "*"), device)
        ):
            matchers = ("vendor_id", "product_id", "address", "devname")
            return {key: str(value) for key, value in spec.items() if key not in matchers}
    return None


def _is(wanted: object, value: str) -> bool:
    return wanted == "*" or str(wanted).lower() == value.lower()


_PARTS = ("domain", "bus", "slot", "function")


def _addressed(wanted: object, device: Device) -> bool:
    """A PF's address means its VFs too."""
    return any(_matches(wanted, address) for address in (device.address, device.parent) if address)


def _matches(wanted: object, address: str) -> bool:
    given = re.fullmatch(r"([0-9a-f]+):([0-9a-f]+):([0-9a-f]+)\.([0-7])", address.lower())
    if given is None:
        return False
    if isinstance(wanted, Mapping):
        patterns = [str(wanted.get(part, ".*")) for part in _PARTS]
        return all(
            re.fullmatch(pattern, part)
            for pattern, part in zip(patterns, given.groups(), strict=True)
        )
    text = str(wanted).lower()
    if text == "*":
        return True
    rest, _, function = text.partition(".")
    pieces = rest.split(":")
    parts = ["*"] * (3 - len(pieces)) + pieces + [function or "*"]
    return all(p in ("*", "", g) for p, g in zip(parts, given.groups(), strict=True))


# -- what is given ---------------------------------------------------------------------------------


class Place(msgspec.Struct, frozen=True):
    """The host cells a guest is on (None: it has no NUMA nodes), and their sockets."""

    cells: frozenset[int] | None = None
    sockets: frozenset[int] = frozenset()
    socket_of: dict[int, int] = {}


def place_of(cells: Sequence[HostCell], chosen: frozenset[int] | None) -> Place:
    """The place that consists of the chosen cells."""
    socket_of = {cell.id: cell.socket for cell in cells if cell.socket is not None}
    if chosen is None:
        return Place()
    return Place(chosen, frozenset(socket_of[c] for c in chosen if c in socket_of), socket_of)


def give(
    devices: Sequence[Device],
    taken: Collection[str],
    wanted: Sequence[DeviceRequest],
    place: Place,
    *,
    providers: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, tuple[str, ...]] | NoFit:
    """Request → addresses of devices for all requests at once, or why there are none.

    ``taken`` are in use; a PF is not free while one of its VFs is taken, nor a VF whose PF is.
    ``providers``: request → the resource provider of each of its devices, where Placement has
    chosen them. Devices near the guest's cells come first.
    """
    free = _free(devices, taken)
    offers: list[list[Device]] = []
    order: list[DeviceRequest] = []
    for request in wanted:
        chosen = (providers or {}).get(request.id)
        offer = [
            device
            for device in free
            if _serves(device, request, place) and (chosen is None or device.provider in chosen)
        ]
        if len(offer) < request.count:
            return NoFit(
                f"{len(offer)} devices of {request.alias or request.id} are free with the NUMA "
                f"policy {request.policy}, the guest wants {request.count}"
            )
        offer.sort(key=lambda device: (_rank(device, place), device.address))
        if chosen is None:
            offers += [offer] * request.count
        else:
            offers += [[d for d in offer if d.provider == one] for one in chosen]
        order += [request] * (len(offers) - len(order))
    if not offers:
        return {}
    turn = sorted(range(len(offers)), key=lambda n: (len(offers[n]), n))
    steps = iter(range(_MOST_STEPS))
    made = _assign([offers[n] for n in turn], {}, steps)
    if made is None:
        return NoFit("the devices free do not suffice for all that are asked for together")
    given: dict[str, list[str]] = {request.id: [] for request in wanted}
    for position, address in zip(turn, made, strict=True):
        given[order[position].id].append(address)
    return {name: tuple(addresses) for name, addresses in given.items()}


def _free(devices: Sequence[Device], taken: Collection[str]) -> list[Device]:
    parents = {device.parent for device in devices if device.parent and device.address in taken}
    return [
        device
        for device in devices
        if device.address not in taken
        and device.address not in parents
        and device.parent not in taken
    ]


def _serves(device: Device, request: DeviceRequest, place: Place) -> bool:
    return any(_fits(device, spec) for spec in request.specs) and _near(
        device, request.policy, place
    )


def _fits(device: Device, spec: DeviceSpec) -> bool:
    # PFs and vDPA devices are given only where they are asked for by type.
    types = (spec.device_type,) if spec.device_type else ("type-PCI", "type-VF")
    return (
        device.type in types
        and spec.vendor_id in ("", device.vendor_id.lower())
        and spec.product_id in ("", device.product_id.lower())
        and all(_tag(device.tags.get(key)) == _tag(value) for key, value in spec.tags.items())
    )


def _tag(value: str | None) -> str:
    text = (value or "").strip().lower()
    return {"yes": "true", "on": "true", "1": "true", "no": "false", "": "false"}.get(text, text)


def _near(device: Device, policy: str, place: Place) -> bool:
    if place.cells is None or policy == "preferred":
        return True
    node = device.numa_node
    if policy == "socket":
        return node is not None and place.socket_of.get(node, -1) in place.sockets
    return node in place.cells or (policy == "legacy" and node is None)


def _rank(device: Device, place: Place) -> int:
    if place.cells is None:
        # Devices without a NUMA node are of the least use to others.
        return 0 if device.numa_node is None else 1
    if device.numa_node in place.cells:
        return 0
    return 1 if device.numa_node is None else 2


def _assign(
    offers: Sequence[Sequence[Device]], used: Mapping[str, Device], steps: Iterator[int]
) -> list[str] | None:
    """An address for each offer in its order, no device and no PF with its VFs twice."""
    if not offers:
        return []
    tried: set[tuple[object, ...]] = set()
    for device in offers[0]:
        if not _compatible(device, used):
            continue
        # Devices that look alike to everybody still waiting need not be tried again.
        kind = (
            device.parent if _parent_matters(device, offers) else None,
            device.address if device.type == "type-PF" else None,
            tuple(any(device is other for other in offer) for offer in offers[1:]),
        )
        if kind in tried:
            continue
        tried.add(kind)
        if next(steps, None) is None:
            return None
        rest = _assign(offers[1:], {**used, device.address: device}, steps)
        if rest is not None:
            return [device.address, *rest]
    return None


def _parent_matters(device: Device, offers: Sequence[Sequence[Device]]) -> bool:
    return device.parent is not None and any(
        other.address == device.parent for offer in offers for other in offer
    )


def _compatible(device: Device, used: Mapping[str, Device]) -> bool:
    if device.address in used or device.parent in used:
        return False
    return all(other.parent != device.address for other in used.values())
