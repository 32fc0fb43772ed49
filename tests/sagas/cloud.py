"""A small cloud for the server sagas: real databases, Placement and agents; a stand-in network."""

from __future__ import annotations

import base64
import contextlib
import copy
import functools
import sqlite3
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.base.clock import SystemClock, VirtualClock
from kilonova.base.errors import Conflict, NotFound
from kilonova.base.ids import RandomIds, SeededIds
from kilonova.clients.keystone import Endpoint
from kilonova.clients.placement import Placement
from kilonova.compute.images import MadeImages
from kilonova.compute.journal import Journal
from kilonova.compute.service import Agent
from kilonova.config.settings import Settings
from kilonova.db.cells import CELL0, Cell, Cells
from kilonova.db.database import Database, Tx
from kilonova.db.tables import api as api_tables
from kilonova.db.tables import cell as cell_tables
from kilonova.domain.guest import FixedIp, HostReport, Nic
from kilonova.domain.request import HostRef, RequestSpec, Selection, ServerGroup
from kilonova.domain.sagas import BUILD, DELETE, SagaContext, SagaKind, ServerArgs
from kilonova.domain.server import BuildRequest, BuildSpec, WantedNic
from kilonova.domain.states import Task
from kilonova.interfaces.network import Network, NewPort, Port
from kilonova.interfaces.placement import Inventory
from kilonova.messaging.memory import MemoryBus
from kilonova.placement import service as placement_service
from kilonova.placement.policies import Enforcer
from kilonova.scheduler.hosts import StoredHosts
from kilonova.store import (
    actions,
    block_devices,
    mappings,
    nodes,
    quotas,
    servers,
    services,
    shares,
)
from kilonova.virt.fake import FakeDriver, FakeWorld
from kilonova.virt.fake.world import ASIDE, FakeGuest
from kilonova.web.client import HttpClient
from kilonova.workflows.accepting import ELSEWHERE, EngineSagas
from kilonova.workflows.audit import Sources, audit
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.engine.journal import STEPS, UNDO
from kilonova.workflows.engine.kit import Hook, Kit, Limits
from kilonova.workflows.engine.tables import TABLES
from kilonova.workflows.harness import JumpClock
from kilonova.workflows.visible import ServerVisible
from kilonova.workflows.world import World
from tests.support import compute
from tests.support.guests import Files, Plugs
from tests.support.images import Images
from tests.support.shares import Shares
from tests.support.volumes import Volumes

CELL = "c0000000-0000-4000-8000-000000000001"
ORIGIN = "http://placement.test"
HOSTS = ("h1", "h2")
SECRET = "hunter2-hunter2"
SERVER = compute.server_id(1)
NETS = ("n1", "n2")
AMOUNT = {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}
GIVEN = "given-port"
GIVEN_VOLUMES = ("v1", "v2")


def provider(host: str) -> str:
    """The stable id of a host's node."""
    return f"d0000000-0000-4000-8000-{int(host[1:]):012d}"


class Token:
    """A token source that always has the same one."""

    async def token(self) -> str:
        return "admin"

    async def endpoint(self, service_type: str, *, interface: str, region: str | None) -> str:
        return ORIGIN

    def forget(self) -> None:
        """Nothing to forget."""


class Networks:
    """A network service in memory; ``plugs`` False leaves ports closed for ever."""

    def __init__(self, stage: CloudStage) -> None:
        self._stage = stage
        self.table: dict[str, Port] = {}
        self.waiting: dict[str, str] = {}
        self.made = 0
        self.opens = True
        self.auto = ""

    async def networks(
        self, *, token: str, project_id: str, ids: tuple[str, ...] = (), sees_all: bool = True
    ) -> list[Network]:
        return []

    async def ports(
        self,
        *,
        ids: tuple[str, ...] = (),
        server_id: str = "",
        network_id: str = "",
        address: str = "",
    ) -> list[Port]:
        if ids:
            return [self.table[i] for i in ids if i in self.table]
        return [p for p in self.table.values() if p.device_id == server_id]

    async def compute_ports(self) -> list[Port]:
        return [p for p in self.table.values() if p.device_id]

    async def security_groups(
        self, *, token: str, project_id: str, names: tuple[str, ...]
    ) -> dict[str, str]:
        return {}

    async def segments(self, network_id: str, *, subnets: tuple[str, ...] = ()) -> list[str]:
        return []

    async def auto_network(self, *, token: str, project_id: str, dry_run: bool) -> str:
        self.auto = "auto-net"
        return self.auto

    async def create_port(self, port: NewPort) -> Port:
        for present in () if port.first else await self.ports(server_id=port.server_id):
            if present.mark == port.mark:
                return present
        self.made += 1
        return self._put(
            Port(
                id=f"port-{self.made}",
                network_id=port.network_id,
                project_id=port.project_id,
                mac=f"fa:16:3e:00:00:{self.made:02x}",
                device_id=port.server_id,
                mark=port.mark,
                ips=((f"10.0.0.{self.made}", "s1"),),
            )
        )

    async def delete_made_ports(self, server_id: str, *, mark: str | None = None) -> None:
        for port in await self.ports(server_id=server_id):
            if port.mark and mark in (None, port.mark):
                del self.table[port.id]

    async def claim_port(
        self, port_id: str, *, server_id: str, availability_zone: str, dns_name: str = ""
    ) -> Port:
        port = self._get(port_id)
        if port.device_id not in ("", server_id):
            raise Conflict(f"Port {port_id} is still in use.")
        return self._put(msgspec.structs.replace(port, device_id=server_id))

    async def bind_port(self, port_id: str, *, host: str) -> Port:
        port = self._get(port_id)
        return self._put(msgspec.structs.replace(port, host=host, vif_type="bridge", status="DOWN"))

    async def bind_also(self, nic: Nic, *, host: str) -> Nic:
        self._get(nic.port_id)
        self.waiting[nic.port_id] = host
        return nic

    async def activate_binding(self, port_id: str, *, host: str) -> None:
        self.waiting.pop(port_id, None)
        self._put(msgspec.structs.replace(self._get(port_id), host=host, status="DOWN"))

    async def drop_binding(self, port_id: str, *, host: str) -> None:
        if self.waiting.get(port_id) == host:
            del self.waiting[port_id]

    async def unbind_port(self, port_id: str) -> None:
        if port_id in self.table:
            port = self.table[port_id]
            self._put(msgspec.structs.replace(port, host="", device_id="", vif_type="unbound"))

    async def leave_host(self, port_id: str) -> None:
        if port_id in self.table:
            self._put(msgspec.structs.replace(self.table[port_id], host="", vif_type="unbound"))

    async def delete_port(self, port_id: str) -> None:
        self.table.pop(port_id, None)

    async def nics(
        self, server_id: str, port_ids: tuple[str, ...], *, new: bool = False
    ) -> list[Nic]:
        found = []
        for port in await self.ports(ids=port_ids):
            if port.device_id != server_id:
                continue
            ips = tuple(FixedIp(address, subnet, "10.0.0.0/24") for address, subnet in port.ips)
            found.append(
                Nic(port.id, port.mac, port.network_id, port.network_id, port.vif_type, ips=ips)
            )
        return found

    def _get(self, port_id: str) -> Port:
        if port_id not in self.table:
            raise NotFound(f"Port {port_id} could not be found.")
        return self.table[port_id]

    def _put(self, port: Port) -> Port:
        self.table[port.id] = port
        return port


class Driver(FakeDriver):
    """A fake driver whose guests open their ports, as a data plane does."""

    def __init__(self, given: Any, world: FakeWorld, stage: CloudStage) -> None:
        super().__init__(given, world)
        self._stage = stage

    async def spawn(self, guest: Any, *, paused: bool) -> Any:
        status = await super().spawn(guest, paused=paused)
        await self._open(guest)
        return status

    async def arrive(self, guest: Any, move: str, offer: Any, *, start: bool, paused: bool) -> Any:
        status = await super().arrive(guest, move, offer, start=start, paused=paused)
        await self._open(guest)
        return status

    async def come_back(self, guest: Any, move: str, *, start: bool, paused: bool) -> Any:
        status = await super().come_back(guest, move, start=start, paused=paused)
        await self._open(guest)
        return status

    async def _open(self, guest: Any) -> None:
        if self._stage.network.opens:
            for nic in guest.nics:
                await self._stage.plug(guest.server_id, nic.port_id)


@functools.cache
def template(which: str) -> bytes:
    """An empty, migrated SQLite database as bytes."""
    db = Database("sqlite://")
    if which == "placement":
        placement_service.prepare(db, SystemClock())
    else:
        tables = api_tables if which == "api" else cell_tables
        db.run_sync(tables.metadata.create_all)
    data = raw(db).serialize()
    db.close()
    return data


def raw(db: Database) -> sqlite3.Connection:
    """The one connection of a database in memory."""
    with db.engine.connect() as connection:
        made = connection.connection.driver_connection
    assert isinstance(made, sqlite3.Connection)
    return made


KINDS = {"api": "api", CELL: "cell", CELL0: "cell", "placement": "placement"}


class Inline(Database):
    """A database whose transactions run in the loop's own thread: thousands of plays are faster."""

    async def _hop(self, _threads: Any, engine: Any, work: Any, args: Any, kwargs: Any) -> Any:
        return self._transact(engine, work, args, kwargs)


@functools.cache
def database(name: str) -> Database:
    """A database in memory, the same for all stages: what is compiled once stays compiled."""
    return Inline("sqlite://", name=name)


@functools.cache
def placement_app() -> Any:
    """Placement over its database."""
    return placement_service.application(
        database("placement"), policy=Enforcer(), clock=SystemClock(), ids=RandomIds(), auth=None
    )


class Snapshot(msgspec.Struct):
    """What was prepared once for all stages of a kind."""

    databases: dict[str, bytes]
    ports: dict[str, Port]
    volumes: Volumes
    images: Images
    shares: Shares
    made: int
    guests: dict[str, list[FakeGuest]]
    now: float


_SNAPSHOTS: dict[type[CloudStage], Snapshot] = {}


class CloudStage:
    """Two hosts, one cell, cell0; survives its conductors. Subclasses tell the story."""

    nics: tuple[WantedNic, ...] = (
        WantedNic("0", network_id="n1"),
        WantedNic("1", network_id="n2", tag="second"),
    )
    hosts: tuple[str, ...] = HOSTS

    def __init__(self) -> None:
        self.api, self.cell, self.cell0 = database("api"), database(CELL), database(CELL0)
        self.databases = {"api": self.api, CELL: self.cell, CELL0: self.cell0}
        self.cells = Cells(
            (Cell(CELL0, "cell0", self.cell0), Cell(CELL, "cell1", self.cell)), deadline=60
        )
        self.clock = JumpClock()
        self.still = VirtualClock()
        self.ids = SeededIds("cloud")
        self.bus = MemoryBus()
        self.network = Networks(self)
        self.volumes = Volumes()
        self.images = Images()
        self.shares = Shares()
        self.fakes = FakeWorld(clock=self.still)
        self.agents: dict[str, Agent] = {}
        self.networks_differ: dict[str, list[str]] = {}
        self.dead: set[str] = set()
        self.journal = Journal(None, clock=self.still)
        self.settings = Settings()
        self.sagas = EngineSagas()
        self.server = SERVER
        self._http = HttpClient(loopback={ORIGIN: placement_app()})
        self.placement = Placement(Endpoint(self._http, Token(), "placement"))

    # -- life ------------------------------------------------------------------------------------

    async def enter(self) -> None:
        """Set the stage: prepared before, or now."""
        kind = type(self)
        known = _SNAPSHOTS.get(kind)
        for name, which in KINDS.items():
            raw(database(name)).deserialize(known.databases[name] if known else template(which))
        for host in HOSTS:
            await self.agent(host)
        if known is None:
            await self.prepare()
            _SNAPSHOTS[kind] = self._snapshot()
        else:
            self.network.table, self.network.made = dict(known.ports), known.made
            self.volumes = copy.deepcopy(known.volumes)
            self.images.__dict__ |= copy.deepcopy(known.images.__dict__)
            self.shares = copy.deepcopy(known.shares)
            for host, guests in known.guests.items():
                self.fakes.guests(host).update({g.server_id: copy.copy(g) for g in guests})
            await self.clock.sleep(known.now - self.clock.now().timestamp())
        self.ids = SeededIds("cloud", "play")
        await self.open()

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            {name: raw(database(name)).serialize() for name in KINDS},
            dict(self.network.table),
            copy.deepcopy(self.volumes),
            copy.deepcopy(self.images),
            copy.deepcopy(self.shares),
            self.network.made,
            {
                h: [copy.copy(g) for g in self.fakes.guests(h).values()]
                for h in (*HOSTS, *(f"{host}{ASIDE}" for host in HOSTS))
            },
            self.clock.now().timestamp(),
        )

    async def open(self) -> None:
        """What is peculiar to this stage and not in any database."""

    async def prepare(self) -> None:
        """What is there before the play begins."""
        for host in HOSTS:
            await self.placement.ensure_provider(provider(host), host)
            await self.placement.set_inventory(
                provider(host),
                {"VCPU": Inventory(8), "MEMORY_MB": Inventory(8192), "DISK_GB": Inventory(100)},
            )
            self.cell.run_sync(self._host, host)

    def _host(self, tx: Tx, host: str) -> None:
        now = self.clock.now()
        services.heartbeat(tx, host, "nova-compute", uuid=f"s-{host}", now=now)
        report = HostReport(
            host, "fake", 1, vcpus=8, memory_mb=8192, disk_gb=100, used_vcpus=0, used_memory_mb=0
        )
        nodes.save(tx, uuid=provider(host), host=host, report=report, now=now)

    async def agent(self, host: str) -> None:
        """Start the agent of a host."""
        self.agents[host] = made = Agent(
            host=host,
            node_uuid=provider(host),
            make_driver=lambda given: Driver(given, self.fakes, self),
            bus=self.bus,
            journal=self.journal,
            images=Files(),
            vifs=Plugs(),
            clock=self.still,
            ids=RandomIds(),
            settings=self.settings,
            state_dir=Path("/nonexistent"),
            networks=lambda: self._differences(host),
            sink=MadeImages(self.images, self.still),
        )
        await made.start()

    async def _differences(self, host: str) -> list[str]:
        return self.networks_differ.get(host, [])

    async def dies(self, host: str) -> None:
        """The host's agent is gone, and known to be."""
        await self.agents.pop(host).stop()
        self.dead.add(host)

    async def close(self) -> None:
        for agent in self.agents.values():
            await agent.stop()
        await self.bus.close()
        await self._http.close()
        self.journal.close()
        self.fakes.close()

    # -- what a runner is given ----------------------------------------------------------------

    def kit(self, hook: Hook | None = None) -> Kit:
        world = World(
            db=self.api,
            cells=self.cells,
            images=self.images,
            networks=self.network,
            volumes=self.volumes,
            shares=self.shares,
            placement=self.placement,
            select=self.select,
            group=self._group,
            token=Token().token,
            alive=self.alive,
        )
        return Kit(
            databases=self.databases,
            clock=self.clock,
            world=world,
            settings=self.settings,
            bus=self.bus,
            alive=self.alive,
            visible=ServerVisible(self.api, self.clock),
            limits=Limits(undo_tries=4, forward_tries=4),
            hook=hook,
        )

    async def alive(self, host: str) -> bool:
        return host not in self.dead

    async def select(self, request: RequestSpec) -> Selection:
        wanted = dict(AMOUNT)
        if request.boot_from_volume:
            del wanted["DISK_GB"]
        refs = tuple(
            HostRef(h, h, provider(h), CELL, {provider(h): dict(wanted)}) for h in self.hosts
        )
        return Selection((refs,) if refs else ())

    async def _group(self, group_id: str, but: Collection[str]) -> ServerGroup | None:
        return await StoredHosts(self.api, self.cells, self.clock).group(group_id, but=but)

    async def plug(self, server_id: str, port_id: str) -> None:
        """The network service says that a port is open."""

        def write(tx: Tx) -> None:
            self.sagas.signal(
                tx,
                server_id,
                f"network-vif-plugged:{port_id}",
                ids=RandomIds(),
                clock=self.clock,
            )

        await self.cell.run(write)

    # -- what users do -----------------------------------------------------------------------------

    def asked(self, request_id: str) -> SagaContext:
        """Who asks."""
        return SagaContext(request_id, user_id="u1", project_id="p1", roles=("member",))

    def _accept(self, tx: Tx, kind: SagaKind[Any], args: Any, request_id: str) -> None:
        self.sagas.accept(
            tx,
            kind,
            args,
            server_id=self.server,
            asked=self.asked(request_id),
            ids=self.ids,
            clock=self.clock,
        )

    def request(self) -> tuple[BuildRequest, BuildSpec]:
        """What is asked for."""
        request, spec = compute.request(1)
        return request, msgspec.structs.replace(spec, nics=self.nics, admin_pass=SECRET)

    async def create(self) -> tuple[str, str]:
        """``POST /servers``."""

        def work(tx: Tx) -> None:
            servers.accept(tx, [self.request()])
            self._accept(tx, BUILD, ServerArgs(self.server), "req-1")

        await self.api.run(work)
        return await self.saga()

    async def act(
        self, kind: SagaKind[Any], args: Any, action: str, task: Task | None
    ) -> tuple[str, str]:
        """``POST /servers/ID/action``."""

        def work(tx: Tx) -> None:
            now = self.clock.now()
            servers.begin(tx, self.server, action, task=task, now=now)
            self._record(tx, kind.action)
            self._accept(tx, kind, args, f"req-{kind.action}")

        await self.cell.run(work)
        return await self.saga()

    def _record(self, tx: Tx, action: str) -> None:
        actions.start(
            tx,
            self.server,
            action,
            request_id=f"req-{action}",
            user_id="u1",
            project_id="p1",
            now=self.clock.now(),
        )

    def accept_delete(self, tx: Tx) -> None:
        """The deletion of a server that was still being built a moment ago."""
        self._accept(tx, DELETE, ServerArgs(self.server), "req-delete")

    async def plug_card(self, kind: SagaKind[Any], args: Any) -> tuple[str, str]:
        """``POST /servers/ID/os-interface``, or DELETE of one."""

        def work(tx: Tx) -> None:
            servers.begin(tx, self.server, "attach_interface", task=None, now=self.clock.now())
            self._record(tx, kind.action)
            self._accept(tx, kind, args, f"req-{kind.action}")

        await self.cell.run(work)
        return await self.saga()

    async def delete(self) -> tuple[str, str]:
        """``DELETE /servers/ID``, as the API does it."""
        args = ServerArgs(self.server)
        mapping = await self.api.read(mappings.find, self.server)
        assert mapping is not None
        if mapping.cell_id is None:
            await self.api.run(self._accept, DELETE, args, "req-delete")
            return await self.saga()
        db = self.databases[mapping.cell_id]

        def begin(tx: Tx) -> None:
            servers.begin(tx, self.server, "delete", task=Task.DELETING, now=self.clock.now())
            self._record(tx, "delete")

        def both(tx: Tx) -> None:
            begin(tx)
            self._accept(tx, DELETE, args, "req-delete")

        living = await db.read(engine.living, self.server)
        if living is not None and living.state == ELSEWHERE:
            await self.api.run(self._accept, DELETE, args, "req-delete")
            with contextlib.suppress(NotFound):
                await db.run(begin)
        else:
            await db.run(both)
        return await self.saga()

    async def saga(self) -> tuple[str, str]:
        """Where the newest saga lives, and its id."""
        found = [
            (created, name, saga_id)
            for name, db in self.databases.items()
            for saga_id, created in await db.read(_sagas)
        ]
        _, name, saga_id = max(found)
        return name, saga_id

    # -- what is left ---------------------------------------------------------------------------

    async def outcome(self) -> Any:
        """Everything two good runs have in common."""
        mapping = await self.api.read(mappings.find, self.server)
        places = {name: await db.read(_server, self.server) for name, db in self.databases.items()}
        found: dict[str, Any] = {
            "mapping": [mapping.cell_id, mapping.queued_for_delete] if mapping else None,
            "request": await self.api.read(servers.building, self.server) is not None,
            "server": {name: found for name, found in places.items() if found},
            "quota": msgspec.to_builtins(await self.api.read(quotas.usage, "p1")),
            "holds": (await self.placement.allocations_of(self.server)).allocations,
            "ports": sorted([p.mark, p.device_id, p.host] for p in self.network.table.values()),
            "guests": {
                host: [
                    [g.server_id, int(g.power), len(g.cards)]
                    for g in self.fakes.guests(host).values()
                ]
                for host in HOSTS
            },
        }
        if self.shares.table:
            rows = await self.cell.read(shares.of_server, self.server)
            found["shares"] = [[row.share_id, row.status] for row in rows]
            found["rules"] = sorted(self.shares.rules)
            found["mounted"] = {
                host: [sorted(g.shares) for g in self.fakes.guests(host).values()] for host in HOSTS
            }
        if self.volumes.table:
            found["volumes"] = sorted(
                [v.id if v.id in GIVEN_VOLUMES else "made", v.status, len(v.attachments)]
                for v in self.volumes.table.values()
            )
            found["plugged"] = {
                host: [len(g.volumes) for g in self.fakes.guests(host).values()] for host in HOSTS
            }
            found["disks"] = {
                name: await db.read(_disks, self.server) for name, db in self.databases.items()
            }
        return found

    async def audit(self) -> list[str]:
        """The audit, and that no secret lies about."""
        report = await audit(
            Sources(
                db=self.api,
                cells=self.cells,
                clock=self.clock,
                bus=self.bus,
                placement=self.placement,
                ports=self.network.compute_ports,
                volumes=self.volumes.all_attachments,
                down_after=1e9,
            )
        )
        found = [f"{f.kind} {f.id}: {f.sentence}" for f in report.findings]
        found += [t for t in report.unseen if not any(host in t for host in self.dead)]
        for name, db in self.databases.items():
            found += [f"a password lies in {name} at {at}" for at in await db.read(_secrets)]
        return found

    async def save(self) -> Any:
        """Neighbours and compute's own rows, as JSON-able data."""
        return {
            "rows": {n: await db.read(_dump, own=True) for n, db in self.databases.items()},
            "ports": msgspec.to_builtins(list(self.network.table.values())),
            "made": self.network.made,
            "guests": {
                h: [base64.b64encode(msgspec.msgpack.encode(g)).decode() for g in gs.values()]
                for h in HOSTS
                if (gs := self.fakes.guests(h))
            },
            "holds": (await self.placement.allocations_of(self.server)).allocations,
            "now": self.clock.now().timestamp(),
        }

    async def load(self, saved: Any) -> None:
        """Take over what ``save`` gave."""
        from kilonova.interfaces.placement import Claim

        for name, db in self.databases.items():
            await db.run(_load, saved["rows"][name])
        self.network.table = {p["id"]: msgspec.convert(p, Port) for p in saved["ports"]}
        self.network.made = saved["made"]
        for host in HOSTS:
            self.fakes.guests(host).clear()
            for text in saved["guests"].get(host, []):
                guest = msgspec.msgpack.decode(base64.b64decode(text), type=FakeGuest)
                self.fakes.guests(host)[guest.server_id] = guest
        await self.placement.release(self.server)
        if saved["holds"]:
            assert await self.placement.claim(Claim(self.server, saved["holds"], "p1", "u1"))
        await self.clock.sleep(saved["now"] - self.clock.now().timestamp())


@contextlib.asynccontextmanager
async def opened(stage: CloudStage) -> AsyncIterator[CloudStage]:
    """Open a stage, prepare it, and close it."""
    await stage.enter()
    try:
        yield stage
    finally:
        await stage.close()


def _sagas(tx: Tx) -> list[tuple[str, float]]:
    c = TABLES.sagas.c
    rows = tx.execute(sa.select(c.id, c.created_at).where(c.state != ELSEWHERE))
    return [(row[0], row[1]) for row in rows]


def _server(tx: Tx, server_id: str) -> Any:
    if not sa.inspect(tx).has_table("instances"):
        return None
    row = servers.get(tx, server_id, servers.EVERYTHING, deleted=True)
    if row is None:
        return None
    page = actions.page(tx, server_id) or []
    shown = [actions.show(tx, server_id, a.request_id) for a in page]
    return {
        "states": [row.vm_state, row.task_state, row.power_state, row.deleted],
        "host": row.host,
        "zone": row.availability_zone,
        "fault": row.fault.message if row.fault else None,
        "launched": row.launched_at is not None,
        "cards": [[n.network_id, n.tag] for n in servers.get_nics(tx, server_id)],
        "actions": [
            [a.action, a.message, a.finish is not None, [[e.name, e.result] for e in a.events]]
            for a in shown
            if a is not None
        ],
    }


def _disks(tx: Tx, server_id: str) -> Any:
    if not sa.inspect(tx).has_table("disks"):
        return []
    return [
        [d.role, d.device, d.volume_id in GIVEN_VOLUMES, d.connection is not None]
        for d in block_devices.of_server(tx, server_id)
    ]


def _secrets(tx: Tx) -> list[str]:
    steps = sa.select(STEPS.c.name).where(STEPS.c.result.contains(SECRET))
    undo = sa.select(UNDO.c.step).where(UNDO.c.args.contains(SECRET))
    return [*tx.execute(steps).scalars(), *tx.execute(undo).scalars()]


def _own_tables(tx: Tx) -> list[str]:
    engine_tables = {table.name for table in TABLES}
    return [t for t in sa.inspect(tx).get_table_names() if t not in engine_tables]


def _dump(tx: Tx, own: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _own_tables(tx):
        result = tx.exec_driver_sql(f"SELECT * FROM {name}")
        rows = [
            {k: _text(v) for k, v in zip(result.keys(), row, strict=True) if v is not None}
            for row in result
        ]
        if rows:
            found[name] = rows
    return found


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _load(tx: Tx, tables: dict[str, list[dict[str, Any]]]) -> None:
    for name in _own_tables(tx):
        tx.exec_driver_sql(f"DELETE FROM {name}")
        for row in tables.get(name, []):
            columns = ", ".join(row)
            marks = ", ".join("?" for _ in row)
            tx.exec_driver_sql(
                f"INSERT INTO {name} ({columns}) VALUES ({marks})", tuple(row.values())
            )
