"""What might be different about a request, a host or the rules: the changes worth trying."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec

from kilonova.domain.explain import OPERATOR, USER, Change
from kilonova.domain.request import RequestSpec
from kilonova.scheduler.attempts import CHOOSING, NOTHING, Attempt, Relax
from kilonova.scheduler.demand import Demand
from kilonova.scheduler.state import Aggregate, HostState

DISABLED = "COMPUTE_STATUS_DISABLED"
_TRAIT = re.compile(r"trait([A-Za-z0-9_-]{1,64})?:([A-Z][A-Z0-9_]*)")
_LEAST = {"VCPU": 1, "PCPU": 1, "MEMORY_MB": 1}
# Filters whose refusal another probe lifts more exactly.
_OTHERWISE = frozenset(
    {
        "ComputeFilter",
        "ServerGroupAntiAffinityFilter",
        "ServerGroupAffinityFilter",
        "DifferentHostFilter",
        "SameHostFilter",
        "SimpleCIDRAffinityFilter",
        "JsonFilter",
    }
)
_HINTS = ("different_host", "same_host", "build_near_host_ip", "query")


class Probe(msgspec.Struct, frozen=True):
    """A change to try. ``token`` names the constraint it lifts; ``resource`` is set for amounts
    (group suffix, class), which are tried as small as can be and then made exact."""

    token: str
    change: Change
    alter: Callable[[RequestSpec], RequestSpec] | None = None
    relax: Relax = NOTHING
    resource: tuple[str, str] | None = None

    def request(self, request: RequestSpec) -> RequestSpec:
        """The request with the change."""
        return self.alter(request) if self.alter is not None else request


def probes(failed: Attempt, aggregates: list[Aggregate]) -> list[Probe]:
    """Every change worth trying for a request that failed, cheapest first."""
    request, wanted = failed.request, failed.wanted
    found = [*_wishes(request), *_traits(request, wanted), *_services()]
    found += _specs(request)
    if wanted is not None:
        found += _resources(request, wanted)
        found += _aggregates(request, wanted, aggregates)
    return sorted(found, key=lambda probe: probe.change.cost)


def filter_probes(failed: Attempt) -> list[Probe]:
    """One for each filter that left hosts out."""
    if failed.stage != CHOOSING:
        return []
    return [
        Probe(
            f"filter:{cut.step}",
            Change(
                "filter",
                f"Hosts with room are refused by {cut.step}; an operator can find out why.",
                OPERATOR,
                3.0,
                {"name": cut.step},
            ),
            relax=Relax(without=frozenset({cut.step})),
        )
        for cut in failed.selection.cuts
        if cut.left < cut.before and cut.step.endswith(("Filter", "Isolation"))
        if cut.step not in _OTHERWISE
    ]


def _replaced(**values: object) -> Callable[[RequestSpec], RequestSpec]:
    return lambda request: msgspec.structs.replace(request, **values)


def _wishes(request: RequestSpec) -> Iterator[Probe]:
    zone = request.availability_zone
    if zone:
        text = f"Another availability zone than {zone} has room."
        change = Change("zone", text, cost=1.0, args={"asked": zone})
        yield Probe(f"zone:{zone}", change, _replaced(availability_zone=None))
    if request.force_host or request.force_node or request.requested_host or request.requested_node:
        change = Change("host", "Another host than the one asked for has room.", cost=1.0)
        anywhere = _replaced(
            force_host=None, force_node=None, requested_host=None, requested_node=None
        )
        yield Probe("host", change, anywhere)
    if request.group is not None:
        policy = request.group.policy
        text = f"Outside its server group, whose rule is {policy}, it would fit."
        change = Change("group", text, cost=1.1, args={"policy": policy})
        yield Probe(f"group:{policy}", change, _replaced(group=None))
    for name in _HINTS:
        if name in request.hints:
            text = f"Without the scheduler hint {name} it would fit."
            change = Change("hint", text, cost=0.9, args={"name": name})
            yield Probe(f"hint:{name}", change, _without_hint(name))
    if request.ignore_hosts:
        text = "The hosts that are left out, or were tried before, have room."
        change = Change("ignored", text, OPERATOR, 3.5)
        yield Probe("ignored", change, _replaced(ignore_hosts=()))
    if len(request.servers) > 1:
        text = "Fewer servers at once have room."
        change = Change("count", text, cost=0.8, args={"asked": len(request.servers)})
        yield Probe("count", change, _replaced(servers=request.servers[:1]))


def _without_hint(name: str) -> Callable[[RequestSpec], RequestSpec]:
    def alter(request: RequestSpec) -> RequestSpec:
        hints = {key: value for key, value in request.hints.items() if key != name}
        return msgspec.structs.replace(request, hints=hints)

    return alter


def without_spec(key: str) -> Callable[[RequestSpec], RequestSpec]:
    """A request whose flavor lacks an extra spec."""

    def alter(request: RequestSpec) -> RequestSpec:
        specs = {k: v for k, v in request.flavor.extra_specs.items() if k != key}
        flavor = msgspec.structs.replace(request.flavor, extra_specs=specs)
        return msgspec.structs.replace(request, flavor=flavor)

    return alter


def without_property(key: str) -> Callable[[RequestSpec], RequestSpec]:
    """A request whose image lacks a property."""

    def alter(request: RequestSpec) -> RequestSpec:
        if request.image is None:
            return request
        kept = {k: v for k, v in request.image.properties.items() if k != key}
        image = msgspec.structs.replace(request.image, properties=kept)
        return msgspec.structs.replace(request, image=image)

    return alter


def _traits(request: RequestSpec, wanted: Demand | None) -> Iterator[Probe]:
    said: set[str] = set()
    for key, value in request.flavor.extra_specs.items():
        if found := _TRAIT.fullmatch(key):
            said.add(found[2])
            text = f"A flavor without {key}={value} would fit."
            change = Change("trait", text, cost=1.2, args={"name": found[2], "flavor": key})
            yield Probe(f"trait:{found[2]}", change, without_spec(key))
    for key in request.properties:
        if found := _TRAIT.fullmatch(key):
            said.add(found[2])
            text = f"An image without the property {key} would fit."
            change = Change("trait", text, cost=1.3, args={"name": found[2], "image": key})
            yield Probe(f"trait:{found[2]}", change, without_property(key))
    if wanted is None:
        return
    for name in sorted(wanted.traits - said):
        text = f"No host with room has trait {name}, which this request needs."
        change = Change("trait", text, OPERATOR, 2.0, {"name": name})
        yield Probe(f"trait:{name}", change, relax=Relax(demand=_without_trait(name)))


def _without_trait(name: str) -> Callable[[Demand], Demand]:
    def relax(wanted: Demand) -> Demand:
        groups = tuple(
            msgspec.structs.replace(group, required=tuple(t for t in group.required if t != name))
            for group in wanted.groups
        )
        root = tuple(t for t in wanted.root_required if t != name)
        return msgspec.structs.replace(wanted, groups=groups, root_required=root)

    return relax


def _services() -> Iterator[Probe]:
    text = "A host with room is disabled; an operator can enable it."
    yield Probe(
        "disabled",
        Change("enable", text, OPERATOR, 1.5),
        relax=Relax(demand=_whether_disabled, host=_enabled),
    )
    text = "A host with room is down; an operator can bring it back."
    yield Probe("down", Change("up", text, OPERATOR, 1.8), relax=Relax(host=_up))


def _whether_disabled(wanted: Demand) -> Demand:
    kept = tuple(name for name in wanted.root_forbidden if name != DISABLED)
    return msgspec.structs.replace(wanted, root_forbidden=kept)


def _enabled(state: HostState) -> HostState:
    return msgspec.structs.replace(state, disabled=False) if state.disabled else state


def _up(state: HostState) -> HostState:
    return state if state.up else msgspec.structs.replace(state, up=True)


def _specs(request: RequestSpec) -> Iterator[Probe]:
    for key, value in request.flavor.extra_specs.items():
        if not key.startswith(("trait", "resources")):
            text = f"A flavor without {key}={value} would fit."
            change = Change("extra_spec", text, cost=1.2, args={"name": key})
            yield Probe(f"extra_spec:{key}", change, without_spec(key))
    for key, value in request.properties.items():
        if not key.startswith("trait"):
            text = f"An image without the property {key}={value} would fit."
            change = Change("property", text, cost=1.3, args={"name": key})
            yield Probe(f"property:{key}", change, without_property(key))


def _resources(request: RequestSpec, wanted: Demand) -> Iterator[Probe]:
    for group in wanted.groups:
        for name, asked in group.resources.items():
            least = min(_LEAST.get(name, 0), asked)
            key = (group.suffix, name)
            mine = altered(request, key, least) is not None
            yield Probe(
                f"resource:{name}",
                Change(
                    "resource" if mine else "room",
                    f"Less {name} has room.",
                    USER if mine else OPERATOR,
                    0.5 if mine else 1.4,
                    {"resource": name, "asked": asked},
                ),
                _amount(key, least) if mine else None,
                NOTHING if mine else Relax(demand=lower(key, least)),
                key,
            )


def _amount(key: tuple[str, str], amount: int) -> Callable[[RequestSpec], RequestSpec]:
    return lambda request: altered(request, key, amount) or request


def lower(key: tuple[str, str], amount: int) -> Callable[[Demand], Demand]:
    """A demand of another amount of a class in a group; 0 leaves it out."""
    suffix, name = key

    def relax(wanted: Demand) -> Demand:
        groups = []
        for group in wanted.groups:
            resources = group.resources
            if group.suffix == suffix and name in resources:
                resources = {**resources, name: amount}
                resources = {k: v for k, v in resources.items() if v}
            groups.append(msgspec.structs.replace(group, resources=resources))
        return msgspec.structs.replace(wanted, groups=tuple(groups))

    return relax


def altered(request: RequestSpec, key: tuple[str, str], amount: int) -> RequestSpec | None:
    """The request with a flavor that wants another amount; None when the flavor does not say it."""
    suffix, name = key
    flavor = request.flavor
    spec = f"resources{suffix}:{name}"
    if spec in flavor.extra_specs:
        specs = {**flavor.extra_specs, spec: str(amount)}
        flavor = msgspec.structs.replace(flavor, extra_specs=specs)
    elif suffix:
        return None
    elif name == "MEMORY_MB":
        flavor = msgspec.structs.replace(flavor, memory_mb=amount)
    elif name in ("VCPU", "PCPU"):
        if flavor.extra_specs.get("hw:cpu_policy") == "mixed":
            return None
        flavor = msgspec.structs.replace(flavor, vcpus=amount)
    elif name == "DISK_GB":
        root = 0 if request.boot_from_volume else flavor.root_gb
        swap = -(-flavor.swap_mb // 1024)
        left = max(0, root + flavor.ephemeral_gb + swap - amount)
        values = {}
        for field, size in (("root_gb", root), ("ephemeral_gb", flavor.ephemeral_gb)):
            taken = min(left, size)
            left -= taken
            if taken:
                values[field] = size - taken
        if left:
            values["swap_mb"] = max(0, (swap - left) * 1024)
        flavor = msgspec.structs.replace(flavor, **values)
    else:
        return None
    return msgspec.structs.replace(request, flavor=flavor)


def _aggregates(
    request: RequestSpec, wanted: Demand, aggregates: list[Aggregate]
) -> Iterator[Probe]:
    zone = request.availability_zone
    zones = {one.uuid for one in aggregates if one.availability_zone}
    mine = {one.uuid for one in aggregates if zone and one.availability_zone == zone}

    def anybody(demand: Demand) -> Demand:
        kept = tuple(uuids for uuids in demand.member_of if set(uuids) == mine)
        return msgspec.structs.replace(demand, member_of=kept)

    def open_to_all(demand: Demand) -> Demand:
        kept = tuple(u for u in demand.forbidden_aggregates if zone and u in zones and not mine)
        return msgspec.structs.replace(demand, forbidden_aggregates=kept)

    if anybody(wanted) != wanted:
        text = "Hosts with room are not in an aggregate of this project."
        change = Change("aggregate", text, OPERATOR, 2.2)
        yield Probe("aggregate", change, relax=Relax(demand=anybody))
    if open_to_all(wanted) != wanted:
        text = "Hosts with room are kept for requests with traits this one does not have."
        change = Change("isolated", text, OPERATOR, 2.3)
        yield Probe("isolated", change, relax=Relax(demand=open_to_all))
