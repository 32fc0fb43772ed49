"""From a request to the parameters of Placement's search for candidates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import msgspec
import os_traits

from kilonova.base.errors import BadRequest
from kilonova.domain.fit import pci
from kilonova.domain.fit.wanted import topology
from kilonova.domain.guest import FlavorSpec, ImageRef
from kilonova.domain.request import RequestSpec, ResourceGroup

_RESOURCE = re.compile(r"resources([A-Za-z0-9_-]{1,64})?:([A-Z][A-Z0-9_]*)")
_TRAIT = re.compile(r"trait([A-Za-z0-9_-]{1,64})?:([A-Z][A-Z0-9_]*)")
TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})


class Demand(msgspec.Struct, frozen=True):
    """What Placement is asked. ``groups`` has the one without suffix first; aggregates are of
    the whole request, ``root_*`` traits of the compute node itself."""

    groups: tuple[ResourceGroup, ...]
    group_policy: str | None = None
    member_of: tuple[tuple[str, ...], ...] = ()
    forbidden_aggregates: tuple[str, ...] = ()
    root_required: tuple[str, ...] = ()
    root_forbidden: tuple[str, ...] = ()
    in_tree: str | None = None

    @property
    def traits(self) -> frozenset[str]:
        """Every trait required of something."""
        return frozenset(self.root_required).union(*(group.required for group in self.groups))

    def require(self, *traits: str) -> Demand:
        """The same, with more traits of the compute node."""
        more = tuple(t for t in traits if t not in self.root_required)
        return msgspec.structs.replace(self, root_required=self.root_required + more)

    def query(self, limit: int) -> list[tuple[str, str]]:
        """The parameters of ``GET /allocation_candidates`` (1.39)."""
        pairs: list[tuple[str, str]] = []
        numbered = 0
        for group in self.groups:
            numbered += bool(group.suffix and group.resources)
            pairs += _group_query(group)
        # Aggregates concern the host; a sharing provider need not be in them, so they go with the
        # group without suffix, where the root decides; without such a group every group has them.
        bare = any(group.resources and not group.suffix for group in self.groups)
        for suffix in [""] if bare else [g.suffix for g in self.groups if g.resources]:
            pairs += [(f"member_of{suffix}", _either(uuids)) for uuids in self.member_of]
            if self.forbidden_aggregates:
                pairs.append((f"member_of{suffix}", "!" + _either(self.forbidden_aggregates)))
            if self.in_tree:
                pairs.append((f"in_tree{suffix}", self.in_tree))
        traits = _traits(self.root_required, self.root_forbidden)
        if traits:
            pairs.append(("root_required", traits))
        if numbered > 1 or self.group_policy:
            pairs.append(("group_policy", self.group_policy or "none"))
        if limit > 0:
            pairs.append(("limit", str(limit)))
        return pairs


def _group_query(group: ResourceGroup) -> list[tuple[str, str]]:
    suffix = group.suffix
    pairs = []
    if group.resources:
        text = ",".join(f"{name}:{amount}" for name, amount in sorted(group.resources.items()))
        pairs.append((f"resources{suffix}", text))
    traits = _traits(group.required, group.forbidden)
    if traits:
        pairs.append((f"required{suffix}", traits))
    pairs += [(f"member_of{suffix}", _either(uuids)) for uuids in group.member_of]
    if group.in_tree:
        pairs.append((f"in_tree{suffix}", group.in_tree))
    return pairs


def _traits(required: Iterable[str], forbidden: Iterable[str]) -> str:
    return ",".join([*sorted(set(required)), *(f"!{name}" for name in sorted(set(forbidden)))])


def _either(uuids: Iterable[str]) -> str:
    return "in:" + ",".join(sorted(uuids))


def demand(request: RequestSpec, *, devices: bool = False) -> Demand:
    """The demand of flavor, image and ports. BadRequest for extra specs that contradict.

    ``devices``: PCI devices are claimed in Placement, so they are asked for there.
    """
    resources: dict[str, dict[str, int]] = {"": _plain(request)}
    required: dict[str, set[str]] = {}
    forbidden: dict[str, set[str]] = {}
    threads = _threads(request)
    if threads is not None and "PCPU" in resources[""]:
        (required if threads == "require" else forbidden)[""] = {"HW_CPU_HYPERTHREADING"}
    for key, value in request.flavor.extra_specs.items():
        if found := _RESOURCE.fullmatch(key):
            suffix, name = found[1] or "", found[2]
            if not value.isdigit():
                raise BadRequest(f"Flavor extra spec {key} must be a number, not {value!r}.")
            part = resources.setdefault(suffix, {})
            part.pop(name, None)
            if int(value):
                part[name] = int(value)
        elif found := _TRAIT.fullmatch(key):
            kind = {"required": required, "forbidden": forbidden}.get(value)
            if kind is None:
                raise BadRequest(f"Flavor extra spec {key} must be required or forbidden.")
            kind.setdefault(found[1] or "", set()).add(found[2])
    for key, value in request.properties.items():
        found = _TRAIT.fullmatch(key)
        if found and value == "required":
            required.setdefault(found[1] or "", set()).add(found[2])
    clash = {s: required.get(s, set()) & forbidden.get(s, set()) for s in required}
    if any(clash.values()):
        names = ", ".join(sorted(set().union(*clash.values())))
        raise BadRequest(f"Traits are both required and forbidden: {names}.")
    root = _Root()
    if not resources[""]:
        root = _Root(tuple(required.pop("", ())), tuple(forbidden.pop("", ())))
    groups = tuple(
        ResourceGroup(
            suffix=suffix,
            resources=resources.get(suffix, {}),
            required=tuple(sorted(required.get(suffix, ()))),
            forbidden=tuple(sorted(forbidden.get(suffix, ()))),
        )
        for suffix in sorted(resources)
        if resources[suffix]
    )
    return Demand(
        groups=(*groups, *request.networks, *(_devices(request) if devices else ())),
        group_policy=request.flavor.extra_specs.get("group_policy"),
        root_required=root.required,
        root_forbidden=root.forbidden,
    )


def _devices(request: RequestSpec) -> list[ResourceGroup]:
    """A group for each PCI device; of an alias with several kinds the first is asked for."""
    return [
        ResourceGroup(
            suffix=name,
            resources={pci.resource_class(one.specs[0]): 1},
            required=tuple(_trait(word) for word in one.specs[0].traits),
        )
        for one in request.shape.devices
        for name in pci.group_names(one)
    ]


def _trait(word: str) -> str:
    name = re.sub(r"[^A-Z0-9]+", "_", word.upper())
    return name if name in os_traits.get_traits() else f"CUSTOM_{name.removeprefix('CUSTOM_')}"


class _Root(msgspec.Struct, frozen=True):
    """Traits that no group of resources can carry."""

    required: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()


def takes(flavor: FlavorSpec, image: ImageRef | None, *, boot_from_volume: bool) -> dict[str, int]:
    """Class → amount a server takes by flavor and image, all groups together.

    Empty for extra specs that contradict.
    """
    request = RequestSpec(
        servers=(),
        project_id="",
        user_id="",
        flavor=flavor,
        image=image,
        boot_from_volume=boot_from_volume,
    )
    total: Counter[str] = Counter()
    try:
        for group in demand(request).groups:
            total.update(group.resources)
    except BadRequest:
        return {}
    return dict(total)


def _threads(request: RequestSpec) -> str | None:
    """The thread policy, where it decides about hosts whose cores have several threads."""
    shape = topology(request.flavor, request.properties)
    return shape.threads if shape and shape.threads in ("isolate", "require") else None


def _plain(request: RequestSpec) -> dict[str, int]:
    flavor = request.flavor
    specs = flavor.extra_specs
    properties = request.properties
    disk = flavor.ephemeral_gb + -(-flavor.swap_mb // 1024)
    if not request.boot_from_volume:
        disk += flavor.root_gb
    found = {"MEMORY_MB": flavor.memory_mb, "DISK_GB": disk}
    shape = topology(flavor, properties)
    own = sum(len(cell.pcpus) for cell in shape.cells) if shape else 0
    found |= {"VCPU": flavor.vcpus - own, "PCPU": own}
    if shape and shape.emulator == "isolate":
        found["PCPU"] += 1
    encrypted = specs.get("hw:mem_encryption") or properties.get("hw_mem_encryption") or ""
    if encrypted.lower() in TRUE:
        found["MEM_ENCRYPTION_CONTEXT"] = 1
    return {name: amount for name, amount in found.items() if amount}
