"""Failing requests in clouds made by chance: the reason named is the true one, the proposed change
works. What is true is found by looking at every host, without any code of the scheduler."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator
from typing import Any

import msgspec
import pytest

from kilonova.base.clock import SystemClock
from kilonova.base.ids import RandomIds
from kilonova.clients.keystone import Endpoint
from kilonova.clients.placement import Placement
from kilonova.config.filter_scheduler import FilterScheduler
from kilonova.db.database import Database
from kilonova.domain.explain import Change, Why
from kilonova.domain.guest import FlavorSpec, ImageRef
from kilonova.domain.request import RequestSpec, Selection, ServerGroup
from kilonova.interfaces.placement import Inventory
from kilonova.placement.policies import Enforcer
from kilonova.placement.service import application, prepare
from kilonova.scheduler.service import Scheduler
from kilonova.scheduler.state import Aggregate, HostState
from kilonova.web.client import HttpClient
from tests.api.placement.test_client import ORIGIN, Token

BATCHES, EACH, REQUESTS = 10, 20, 200
ZONES = {name: str(uuid.UUID(int=900 + n)) for n, name in enumerate(("east", "west"))}
TRAITS = ("CUSTOM_GPU", "CUSTOM_SSD")
DISABLED = "COMPUTE_STATUS_DISABLED"
MOST_SERVERS = 3
FILTERS = (
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
    "DifferentHostFilter",
    "SameHostFilter",
    "NumInstancesFilter",
)
SIZES = {"VCPU": (4, 8, 16), "MEMORY_MB": (2048, 8192, 32768), "DISK_GB": (50, 100, 400)}


class Host(msgspec.Struct):
    """A host as it is."""

    name: str
    provider: str
    free: dict[str, int]
    traits: frozenset[str]
    zone: str
    disabled: bool
    up: bool
    kind: str
    arch: str
    servers: frozenset[str]

    def state(self) -> HostState:
        zones: tuple[Aggregate, ...] = ()
        if self.zone in ZONES:
            metadata = {"availability_zone": self.zone}
            zones = (Aggregate(1, ZONES[self.zone], self.zone, metadata),)
        return HostState(
            self.name,
            self.name,
            self.provider,
            cell_id="c1",
            up=self.up,
            disabled=self.disabled,
            hypervisor_type=self.kind,
            supported=((self.arch, "kvm", "hvm"),),
            servers=self.servers,
            aggregates=zones,
        )


def violated(host: Host, asked: RequestSpec) -> frozenset[str]:
    """Everything that keeps the server off the host."""
    flavor, found = asked.flavor, set()
    amounts = {"VCPU": flavor.vcpus, "MEMORY_MB": flavor.memory_mb, "DISK_GB": flavor.root_gb}
    found |= {f"resource:{name}" for name, size in amounts.items() if size > host.free[name]}
    for key, value in flavor.extra_specs.items():
        name = key.removeprefix("trait:")
        if name != key and (name in host.traits) != (value == "required"):
            found.add(f"trait:{name}")
        if name == "capabilities:hypervisor_type" and value != host.kind:
            found.add(f"extra_spec:{name}")
    if asked.availability_zone not in (None, host.zone):
        found.add(f"zone:{asked.availability_zone}")
    if asked.requested_host not in (None, host.name):
        found.add("host")
    if asked.properties.get("hw_architecture", host.arch) != host.arch:
        found.add("property:hw_architecture")
    return frozenset(found | _busy(host, asked))


def _busy(host: Host, asked: RequestSpec) -> set[str]:
    """What the host's service and the servers there have against it."""
    found = {"disabled"} if host.disabled else set()
    if not host.up:
        found.add("down")
    if asked.group is not None:
        there = asked.group.counts.get(host.name, 0)
        apart = asked.group.policy == "anti-affinity" and there
        together = asked.group.policy == "affinity" and asked.group.counts and not there
        if apart or together:
            found.add(f"group:{asked.group.policy}")
    if host.servers.intersection(asked.hint("different_host")):
        found.add("hint:different_host")
    if asked.hint("same_host") and not host.servers.intersection(asked.hint("same_host")):
        found.add("hint:same_host")
    if len(host.servers) >= MOST_SERVERS:
        found.add("filter:NumInstancesFilter")
    return found


def true_reasons(hosts: list[Host], asked: RequestSpec) -> set[frozenset[str]]:
    """The smallest sets of constraints without which some host takes the server."""
    every = {violated(host, asked) for host in hosts}
    return {one for one in every if not any(other < one for other in every)}


class Town:
    """Hosts made by chance, in a real Placement."""

    def __init__(self, placement: Placement, chance: random.Random) -> None:
        self.placement = placement
        self.chance = chance
        self.most = MOST_SERVERS
        self.hosts = [self._host(f"h{n}") for n in range(chance.randint(3, 6))]

    def _host(self, name: str) -> Host:
        pick = self.chance
        return Host(
            name,
            str(uuid.UUID(int=pick.getrandbits(128), version=4)),
            {one: pick.choice(sizes) for one, sizes in SIZES.items()},
            frozenset(t for t in TRAITS if pick.random() < 0.4),
            pick.choice((*ZONES, "nova")),
            pick.random() < 0.15,
            pick.random() > 0.15,
            pick.choice(("QEMU", "QEMU", "xen")),
            pick.choice(("x86_64", "x86_64", "aarch64")),
            frozenset(f"{name}-s{n}" for n in range(pick.choice((0, 1, 2, 3)))),
        )

    async def build(self) -> None:
        for host in self.hosts:
            await self.placement.ensure_provider(host.provider, host.provider)
            await self.write(host)
            zone = ZONES.get(host.zone)
            await self.placement.set_aggregates(host.provider, [zone] if zone else [])

    async def write(self, host: Host) -> None:
        """What Placement knows of a host."""
        stock = {name: Inventory(2 * size, reserved=size) for name, size in host.free.items()}
        await self.placement.set_inventory(host.provider, stock)
        traits = host.traits | ({DISABLED} if host.disabled else set())
        await self.placement.set_traits(host.provider, traits)

    async def clear(self) -> None:
        for host in self.hosts:
            await self.placement.delete_provider(host.provider)

    # What the scheduler asks:

    async def providers_of(self, host: str | None, node: str | None) -> list[str]:
        return [one.provider for one in self.hosts if (host or node) == one.name]

    async def aggregates(self) -> list[Aggregate]:
        return [
            Aggregate(n, own, name, {"availability_zone": name})
            for n, (name, own) in enumerate(ZONES.items())
        ]

    async def states(self, providers: Collection[str]) -> list[HostState]:
        return [one.state() for one in self.hosts if one.provider in set(providers)]

    async def ask(self, asked: RequestSpec) -> Selection:
        options = FilterScheduler(enabled_filters=FILTERS, max_instances_per_host=self.most)
        scheduler = Scheduler(self.placement, States(self), SystemClock(), filter_options=options)
        return await scheduler.select_destinations(asked)

    def request(self) -> RequestSpec:
        """A demanding one."""
        pick = self.chance

        def maybe(share: float) -> bool:
            return pick.random() < share

        specs = {}
        for name in TRAITS:
            if maybe(0.2):
                specs[f"trait:{name}"] = pick.choice(("required", "required", "forbidden"))
        if maybe(0.15):
            specs["capabilities:hypervisor_type"] = pick.choice(("QEMU", "xen", "vmware"))
        flavor = FlavorSpec(
            1,
            "1",
            "f",
            vcpus=pick.choice((1, 4, 6, 16, 20)),
            memory_mb=pick.choice((512, 4096, 16384, 40000)),
            root_gb=pick.choice((1, 80, 300, 500)),
            extra_specs=specs,
        )
        known = sorted(server for host in self.hosts for server in host.servers) or ["none"]
        hints = {}
        if maybe(0.15):
            hints["different_host"] = pick.sample(known, min(len(known), 3))
        if maybe(0.1):
            hints["same_host"] = [pick.choice([*known, "none"])]
        properties = {"hw_architecture": pick.choice(("x86_64", "mips"))} if maybe(0.15) else {}
        group = None
        if maybe(0.2):
            names = [host.name for host in self.hosts]
            counts = dict.fromkeys(pick.sample(names, pick.randint(1, len(names))), 1)
            group = ServerGroup("g", pick.choice(("affinity", "anti-affinity")), {}, counts)
        return RequestSpec(
            ("s",),
            "p",
            "u",
            flavor,
            image=ImageRef("i", properties=properties),
            availability_zone=pick.choice((*ZONES, "nova")) if maybe(0.3) else None,
            requested_host=pick.choice([h.name for h in self.hosts]) if maybe(0.1) else None,
            group=group,
            hints=hints,
        )


class States:
    """The town's hosts as the scheduler reads them."""

    def __init__(self, town: Town) -> None:
        self.providers_of = town.providers_of
        self.aggregates = town.aggregates
        self.hosts = town.states


async def changed(town: Town, asked: RequestSpec, change: Change) -> RequestSpec:
    """The request, or a host, as the change says."""
    for part in change.parts:
        asked = await changed(town, asked, part)
    if change.kind == "filter":
        assert change.args["name"] == "NumInstancesFilter"
        town.most = 10 * MOST_SERVERS
    for host in town.hosts:
        if host.name == change.host:
            _operate(host, change)
            await town.write(host)
    return msgspec.structs.replace(asked, **_asked_for(asked, change))


def _asked_for(asked: RequestSpec, change: Change) -> dict[str, Any]:
    """The parts of the request that become others."""
    args = change.args
    fields = {"VCPU": "vcpus", "MEMORY_MB": "memory_mb", "DISK_GB": "root_gb"}
    specs, hints, properties = asked.flavor.extra_specs, asked.hints, asked.properties
    found: dict[str, Any] = {}
    match change.kind:
        case "resource":
            found["flavor"] = _flavor(asked, **{fields[args["resource"]]: args["to"]})
        case "trait":
            found["flavor"] = _flavor(asked, extra_specs=_but(specs, args["flavor"]))
        case "extra_spec":
            found["flavor"] = _flavor(asked, extra_specs=_but(specs, args["name"]))
        case "zone":
            found["availability_zone"] = args.get("zone")
        case "host":
            found["requested_host"] = None
        case "group":
            found["group"] = None
        case "hint":
            found["hints"] = _but(hints, args["name"])
        case "property":
            found["image"] = ImageRef("i", properties=_but(properties, args["name"]))
    return found


def _operate(host: Host, change: Change) -> None:
    match change.kind:
        case "enable":
            host.disabled = False
        case "up":
            host.up = True
        case "room":
            name = change.args["resource"]
            host.free = {**host.free, name: host.free[name] + change.args["more"]}


def _but(table: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != key}


def _flavor(asked: RequestSpec, **values: Any) -> FlavorSpec:
    return msgspec.structs.replace(asked.flavor, **values)


async def works(town: Town, asked: RequestSpec, change: Change) -> bool:
    """Whether the server is placed after the change, which is taken back."""
    before = [msgspec.structs.replace(host) for host in town.hosts]
    placed = (await town.ask(await changed(town, asked, change))).servers
    operated = town.hosts
    town.hosts, town.most = before, MOST_SERVERS
    for host, was in zip(operated, before, strict=True):
        if host != was:
            await town.write(was)
    return bool(placed)


@pytest.fixture
async def placement() -> AsyncIterator[Placement]:
    db = Database("sqlite://")
    prepare(db, SystemClock())
    app = application(db, policy=Enforcer(), clock=SystemClock(), ids=RandomIds(), auth=None)
    async with HttpClient(loopback={ORIGIN: app}) as http:
        made = Placement(Endpoint(http, Token(), "placement"))
        # A trait that nobody ever had is refused, which is another reason than any host's.
        await made.ensure_provider(str(uuid.UUID(int=1)), "known")
        await made.set_traits(str(uuid.UUID(int=1)), TRAITS)
        await made.delete_provider(str(uuid.UUID(int=1)))
        yield made
    db.close()


TALLY: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def tally() -> Iterator[None]:
    TALLY.clear()
    yield
    if TALLY["requests"] == REQUESTS:
        assert TALLY["works"] >= 0.95 * REQUESTS, TALLY
        assert TALLY["further"] >= 0.95 * (TALLY["proposals"] - REQUESTS), TALLY


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(BATCHES))
async def test_the_reason_is_true_and_the_change_works(placement: Placement, seed: int) -> None:
    chance = random.Random(seed)
    failed = 0
    while failed < EACH:
        town = Town(placement, chance)
        await town.build()
        for _ in range(10):
            asked = town.request()
            reasons = true_reasons(town.hosts, asked)
            found = await town.ask(asked)
            assert bool(found.servers) == (frozenset() in reasons)
            if found.servers or failed == EACH:
                continue
            failed += 1
            why = found.why
            assert why is not None and why.complete
            assert frozenset(why.blame) in reasons, (why, reasons)
            _nobody_is_named(why)
            TALLY["requests"] += 1
            TALLY["works"] += await works(town, asked, why.changes[0])
            TALLY["proposals"] += len(why.changes)
            for change in why.changes[1:]:
                TALLY["further"] += await works(town, asked, change)
        await town.clear()


def _nobody_is_named(why: Why) -> None:
    shown = why.reason + "".join(change.text for change in why.changes)
    assert not any(f"h{n} " in f"{shown} " for n in range(6)), shown
