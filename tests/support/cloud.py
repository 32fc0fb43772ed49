"""A small cloud for conversations with the Compute API: real databases, stand-in neighbours."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kilonova.api import service
from kilonova.base.clock import Clock, VirtualClock
from kilonova.base.errors import Conflict, Forbidden, NotFound
from kilonova.base.ids import Ids, RandomIds
from kilonova.config.settings import Settings
from kilonova.context import HeldElsewhere, Services
from kilonova.db.cells import CELL0, Cell, Cells
from kilonova.db.database import Database, Tx
from kilonova.db.tables import api, cell
from kilonova.db.tables import sagas as saga_tables
from kilonova.domain.guest import FlavorSpec, HostReport, Nic, PowerState
from kilonova.domain.resources import CellRow
from kilonova.domain.sagas import SagaContext, SagaKind
from kilonova.domain.server import Server, ServerFault
from kilonova.domain.states import VmState
from kilonova.interfaces.image import Image
from kilonova.interfaces.network import Network, NewPort, Port
from kilonova.messaging.memory import MemoryBus
from kilonova.policy.compute import RULES
from kilonova.policy.enforcer import PolicyEnforcer
from kilonova.store import flavors, mappings, nodes, servers, services
from kilonova.web.auth import StaticAuthenticator
from kilonova.web.call import Caller
from kilonova.web.idempotency import MemoryIdempotencyStore
from kilonova.web.testing import Client
from tests.support import images as support_images
from tests.support.compute import NIC, NOW
from tests.support.truth import truthful
from tests.support.volumes import Volumes

CELL1 = "11111111-1111-1111-1111-111111111111"
IMAGE = "70a599e0-31e7-49b7-b260-868f441e862b"
NETWORK = "22222222-0000-0000-0000-000000000001"
PORT = "33333333-0000-0000-0000-000000000001"
PROJECT = "6f70656e737461636b20342065766572"
OTHER = "00000000000000000000000000000002"
CALLERS = {
    "member": Caller(user_id="fake", project_id=PROJECT, roles=("member", "reader")),
    "reader": Caller(user_id="looker", project_id=PROJECT, roles=("reader",)),
    "other": Caller(user_id="stranger", project_id=OTHER, roles=("member", "reader")),
    "admin": Caller(
        user_id="admin", project_id=PROJECT, roles=("admin", "manager", "member", "reader")
    ),
}


class Images(support_images.Images):
    """An image service with one image; ``images`` is its table."""

    def __init__(self) -> None:
        super().__init__()
        self.add(IMAGE, name="tiny", size=1024, properties={"os_distro": "debian"})

    @property
    def images(self) -> dict[str, Image]:
        return self.table


class Networks:
    """A network service with lists of networks and ports."""

    def __init__(self) -> None:
        self.known = {NETWORK: Network(NETWORK, "private", PROJECT, subnets=("s1",))}
        self.made = {PORT: Port(PORT, NETWORK, PROJECT, "fa:16:3e:00:00:09")}
        self.groups = {"default": "g0", "web": "g1"}

    async def networks(
        self, *, token: str, project_id: str, ids: tuple[str, ...] = (), sees_all: bool = True
    ) -> list[Network]:
        return [n for n in self.known.values() if not ids or n.id in ids]

    async def ports(
        self,
        *,
        ids: tuple[str, ...] = (),
        server_id: str = "",
        network_id: str = "",
        address: str = "",
    ) -> list[Port]:
        if address:
            on = (p for p in self.made.values() if p.network_id == network_id)
            return [p for p in on if address in {ip for ip, _ in p.ips}]
        return [p for p in self.made.values() if (p.id in ids if ids else p.device_id == server_id)]

    async def compute_ports(self) -> list[Port]:
        return [p for p in self.made.values() if p.device_owner.startswith("compute:")]

    async def security_groups(
        self, *, token: str, project_id: str, names: tuple[str, ...]
    ) -> dict[str, str]:
        return {name: self.groups[name] for name in names if name in self.groups}

    async def segments(self, network_id: str, *, subnets: tuple[str, ...] = ()) -> list[str]:
        return []

    async def auto_network(self, *, token: str, project_id: str, dry_run: bool) -> str:
        return "" if dry_run else NETWORK

    async def create_port(self, port: NewPort) -> Port:
        raise Conflict("not part of the API's work")

    async def delete_made_ports(self, server_id: str, *, mark: str | None = None) -> None:
        return None

    async def claim_port(
        self, port_id: str, *, server_id: str, availability_zone: str, dns_name: str = ""
    ) -> Port:
        return self.made[port_id]

    async def bind_port(self, port_id: str, *, host: str) -> Port:
        return self.made[port_id]

    async def bind_also(self, nic: Nic, *, host: str) -> Nic:
        return nic

    async def activate_binding(self, port_id: str, *, host: str) -> None:
        return None

    async def drop_binding(self, port_id: str, *, host: str) -> None:
        return None

    async def unbind_port(self, port_id: str) -> None:
        return None

    async def leave_host(self, port_id: str) -> None:
        return None

    async def delete_port(self, port_id: str) -> None:
        self.made.pop(port_id, None)

    async def nics(
        self, server_id: str, port_ids: tuple[str, ...], *, new: bool = False
    ) -> list[Nic]:
        return []


class Documents:
    """A network service's resources as documents: rows by kind, found by equal fields."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, dict[str, Any]]] = {
            "security-groups": {},
            "security-group-rules": {},
            "ports": {},
            "networks": {},
            "subnets": {},
            "floatingips": {},
        }
        for number, name in enumerate(("default", "web")):
            self.put(
                "security-groups",
                {
                    "id": f"66666666-0000-4000-8000-00000000000{number}",
                    "name": name,
                    "description": name,
                    "tenant_id": PROJECT,
                    "security_group_rules": [],
                },
            )

    def put(self, kind: str, row: dict[str, Any]) -> dict[str, Any]:
        """Keep a row."""
        self.rows[kind][row["id"]] = row
        return row

    async def find(self, kind: str, *, token: str | None, **filters: Any) -> list[dict[str, Any]]:
        def fits(row: dict[str, Any]) -> bool:
            return all(
                row.get(k) in v if isinstance(v, tuple) else row.get(k) == v
                for k, v in filters.items()
            )

        return [row for row in self.rows[kind].values() if fits(row)]

    async def show(self, kind: str, item_id: str, *, token: str | None) -> dict[str, Any] | None:
        return self.rows[kind].get(item_id)

    async def create(
        self, kind: str, values: dict[str, Any], *, token: str | None
    ) -> dict[str, Any]:
        row = {"id": RandomIds().uuid(), "tenant_id": PROJECT, **values}
        if kind == "security-groups":
            row["security_group_rules"] = []
        if kind == "security-group-rules":
            parent = self.rows["security-groups"][values["security_group_id"]]
            parent["security_group_rules"].append(row)
        return self.put(kind, row)

    async def update(
        self, kind: str, item_id: str, values: dict[str, Any], *, token: str | None
    ) -> dict[str, Any]:
        self._need(kind, item_id).update(values)
        return self.rows[kind][item_id]

    async def delete(self, kind: str, item_id: str, *, token: str | None) -> None:
        self._need(kind, item_id)
        del self.rows[kind][item_id]

    def _need(self, kind: str, item_id: str) -> dict[str, Any]:
        if item_id not in self.rows[kind]:
            raise NotFound(f"{kind} {item_id} could not be found.")
        return self.rows[kind][item_id]


class ImageDocuments:
    """An image service's documents; the newest first."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.asked: list[dict[str, Any]] = []

    def put(self, image_id: str, **values: Any) -> dict[str, Any]:
        """Keep an image."""
        plain = {"id": image_id, "name": "tiny", "status": "active", "size": 1024, "min_disk": 1}
        times = {"created_at": "2026-01-31T12:00:00Z", "updated_at": "2026-01-31T12:00:00Z"}
        row = {**plain, **times, "min_ram": 0, "owner": PROJECT, **values}
        self.rows[image_id] = row
        return row

    async def url(self) -> str:
        return "http://images"

    async def find(self, *, token: str, **params: Any) -> list[dict[str, Any]]:
        self.asked.append(params)
        if params.get("marker", IMAGE) not in (IMAGE, *self.rows):
            raise NotFound("No such marker.")
        return list(self.rows.values())[: params["limit"]]

    async def get(self, image_id: str, *, token: str) -> dict[str, Any]:
        if image_id not in self.rows:
            raise NotFound(f"Image {image_id} could not be found.")
        return self.rows[image_id]

    async def remove(self, image_id: str, *, token: str) -> None:
        if (await self.get(image_id, token=token)).get("protected"):
            raise Forbidden("It is protected.")
        del self.rows[image_id]

    async def change(
        self, image_id: str, changes: list[dict[str, Any]], *, token: str
    ) -> dict[str, Any]:
        row = await self.get(image_id, token=token)
        for change in changes:
            name = change["path"][1:]
            if change["op"] == "remove":
                del row[name]
            else:
                row[name] = change["value"]
        return row


class SagaLog:
    """Writes sagas as rows, one living saga for a server; nothing runs them."""

    table = saga_tables.TABLES.sagas

    def accept(
        self,
        tx: Tx,
        kind: SagaKind[Any],
        args: msgspec.Struct,
        *,
        server_id: str,
        asked: SagaContext,
        ids: Ids,
        clock: Clock,
    ) -> None:
        t = self.table
        row = tx.execute(sa.select(t.c.id, t.c.state).where(t.c.living_for == server_id)).first()
        if row is not None and row.state == "elsewhere":
            raise HeldElsewhere("The server is held elsewhere.")
        if row is not None and not kind.cancels:
            raise Conflict("The server is busy.")
        before = row.id if row is not None else None
        while before is not None:
            behind = sa.select(t.c.id, t.c.name).where(t.c.queued_after == before)
            waiting = tx.execute(behind).first()
            if waiting is None:
                break
            if waiting.name == kind.name:
                raise Conflict("The server is busy.")
            before = waiting.id
        now = clock.now().timestamp()
        tx.execute(
            t.insert().values(
                id=ids.uuid(),
                name=kind.name,
                args=msgspec.json.encode(args).decode(),
                server_id=server_id,
                living_for=None if row else server_id,
                queued_after=before,
                state="queued",
                backward=False,
                epoch=0,
                cancel_requested=False,
                tries=0,
                request=msgspec.json.encode(asked).decode(),
                created_at=now,
                updated_at=now,
            )
        )

    def cancel(self, tx: Tx, kind: SagaKind[Any], server_id: str, *, clock: Clock) -> bool:
        t = self.table
        held = sa.and_(t.c.living_for == server_id, t.c.name == kind.name)
        return tx.execute(t.update().where(held).values(cancel_requested=True)).rowcount == 1

    def signal(self, tx: Tx, subject: str, name: str, *, ids: Ids, clock: Clock) -> None:
        """Nobody waits."""

    def names(self, tx: Tx) -> list[str]:
        """The names of all sagas, oldest first."""
        t = self.table
        return [row[0] for row in tx.execute(sa.select(t.c.name).order_by(t.c.created_at))]

    def clear(self, tx: Tx) -> None:
        """As if all had ended."""
        tx.execute(self.table.delete())


def recorded(app: ASGIApp) -> ASGIApp:
    """The application; with ``KILONOVA_RECORD=file`` every exchange is added there as JSON."""
    file = os.environ.get("KILONOVA_RECORD")
    return Recorder(app, Path(file)) if file else app


class Recorder:
    """Writes requests and answers as JSON lines, for judges from outside."""

    def __init__(self, app: ASGIApp, file: Path) -> None:
        self._app = app
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked, said = [], []
        start: dict[str, Any] = {}

        async def reading() -> Message:
            message = await receive()
            asked.append(message.get("body", b""))
            return message

        async def writing(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                said.append(message.get("body", b""))
            await send(message)

        await self._app(scope, reading, writing)
        line = {
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode(),
            "request_headers": _headers(scope["headers"]),
            "request_body": _json(b"".join(asked)),
            "status": start["status"],
            "response_headers": _headers(start["headers"]),
            "body": _json(b"".join(said)),
        }
        with self._file.open("a") as out:
            out.write(json.dumps(line) + "\n")


def _headers(rows: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in rows:
        key = name.decode("latin-1")
        text = value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return {"__raw__": raw.decode("latin-1")}


class Cloud:
    """One API with cell0 and cell1, and hands to play the conductor with."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        folder: Path | None = None,
        api_url: str | None = None,
    ) -> None:
        """Databases in memory, or as files in ``folder``; the API database at ``api_url``."""
        url = "sqlite://" if folder is None else f"sqlite:///{folder}/{{}}.db"
        self.clock = VirtualClock(NOW)
        self.db = Database(api_url or url.format("api"), name="api")
        self.cell0 = Cell(CELL0, "cell0", Database(url.format("cell0"), name="cell0"))
        self.cell1 = Cell(CELL1, "cell1", Database(url.format("cell1"), name="cell1"))
        api.metadata.create_all(self.db.engine)
        for each in (self.cell0, self.cell1):
            cell.metadata.create_all(each.db.engine)
        self.bus = MemoryBus()
        self.images = Images()
        self.networks = Networks()
        self.volumes = Volumes()
        self.documents = Documents()
        self.image_documents = ImageDocuments()
        self.sagas = SagaLog()
        self.services = Services(
            settings=settings or Settings(),
            db=self.db,
            cells=Cells([self.cell0, self.cell1]),
            bus=self.bus,
            images=self.images,
            networks=self.networks,
            volumes=self.volumes,
            documents=self.documents,
            image_documents=self.image_documents,
            sagas=self.sagas,
            clock=self.clock,
            ids=RandomIds(),
        )
        self.app = recorded(self.build())
        self.fill()

    def build(self, services: Services | None = None) -> ASGIApp:
        """Another process of the same API, whose answers must be those of its documents."""
        return truthful(self.bare(services), service.api())

    def bare(self, services: Services | None = None) -> ASGIApp:
        """The same with nobody who looks at its answers."""
        return service.build(
            services or self.services,
            auth=StaticAuthenticator(CALLERS),
            policy=PolicyEnforcer(RULES, clock=self.clock),
            idempotency=MemoryIdempotencyStore(self.clock),
        )

    def fill(self) -> None:
        """Flavors, a host, the cells."""

        def rows(tx: Tx) -> None:
            for number, (name, ram) in enumerate((("m1.tiny", 512), ("m1.small", 2048)), 1):
                flavor = FlavorSpec(0, str(number), name, 1, ram, number)
                flavors.create(tx, flavor, now=NOW)
            mappings.add_cell(tx, CellRow(CELL0, "cell0", "none:///", "sqlite://"))
            mappings.add_cell(tx, CellRow(CELL1, "cell1", "memory://", "sqlite://"))
            mappings.map_host(tx, "h1", CELL1)

        def host(tx: Tx) -> None:
            services.heartbeat(
                tx,
                "h1",
                "nova-compute",
                uuid="44444444-0000-4000-8000-000000000001",
                now=self.clock.now(),
            )
            report = HostReport(
                "n1", "QEMU", 7002000, 4, 8192, 100, uptime="up 3 days", cpu_info={"arch": "x86_64"}
            )
            nodes.save(
                tx,
                uuid="55555555-0000-4000-8000-000000000001",
                host="h1",
                report=report,
                now=NOW,
            )
            services.heartbeat(
                tx,
                "c1",
                "nova-conductor",
                uuid="44444444-0000-4000-8000-000000000002",
                now=self.clock.now(),
            )

        self.db.run_sync(rows)
        self.cell1.db.run_sync(host)

    def client(self, token: str = "member", version: str | None = None) -> Client:
        """A client of one of `CALLERS`."""
        return Client(self.app, token=token, version=version)

    def place(self, server_id: str, *, into: Cell | None = None) -> Server:
        """The row moves into a cell."""
        target = into or self.cell1
        request = self.db.run_sync(servers.building, server_id)
        assert request is not None
        now = self.clock.now()
        real = target is self.cell1
        server = target.db.run_sync(
            servers.move_to_cell,
            request,
            host="h1" if real else None,
            node="n1" if real else None,
            zone="nova" if real else None,
            now=now,
        )
        self.db.run_sync(mappings.place, server_id, target.id)
        return server

    def run(self, server_id: str) -> Server:
        """The server becomes ACTIVE, all sagas end."""
        self.place(server_id)
        self.cell1.db.run_sync(servers.set_nics, server_id, [NIC], now=self.clock.now())
        return self.finish(server_id, VmState.ACTIVE, PowerState.RUNNING)

    def finish(self, server_id: str, vm_state: VmState, power: PowerState) -> Server:
        """Work on a server in cell1 ends well."""
        now = self.clock.now()
        done = self.cell1.db.run_sync(servers.finish, server_id, vm_state, power=power, now=now)
        self.db.run_sync(mappings.forget_request, server_id)
        aside = vm_state == VmState.SOFT_DELETED
        self.db.run_sync(mappings.set_aside, server_id, aside=aside)
        self.end_sagas()
        return done

    def fail(self, server_id: str, message: str) -> None:
        """No host was found: the server goes to cell0."""
        self.place(server_id, into=self.cell0)
        now = self.clock.now()
        fault = ServerFault(500, message, now, "Traceback")
        self.cell0.db.run_sync(servers.set_error, server_id, fault, now=now)
        self.db.run_sync(mappings.forget_request, server_id)
        self.end_sagas()

    def delete(self, server_id: str) -> None:
        """The server is gone."""
        self.db.run_sync(mappings.release, server_id)
        for each in (self.cell0, self.cell1):
            each.db.run_sync(servers.delete, server_id, now=self.clock.now())
        self.end_sagas()

    def end_sagas(self) -> None:
        """Every saga ends."""
        for db in (self.db, self.cell0.db, self.cell1.db):
            db.run_sync(self.sagas.clear)

    def pass_time(self, seconds: float) -> None:
        """Later (nobody sleeps in these tests)."""
        self.clock._move(self.clock.monotonic() + seconds)

    def lose_cell1(self) -> None:
        """The database of cell1 cannot be reached any more."""
        lost = Database("postgresql://nobody@127.0.0.1:1/none", name="cell1")
        cell = Cell(CELL1, "cell1", lost)
        self.cell1.db.close()
        self.cell1 = cell
        self.services.cells.replace([self.cell0, cell])

    def close(self) -> None:
        """Close the databases."""
        for db in (self.db, self.cell0.db, self.cell1.db):
            db.close()


def body(**values: Any) -> Mapping[str, Any]:
    """The body of POST /servers."""
    return {"server": {"name": "web", "imageRef": IMAGE, "flavorRef": "1", **values}}


LATER = dt.timedelta(seconds=1)
