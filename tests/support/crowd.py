"""A cloud of many servers in three cells, written straight into its databases."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from kilonova.config.settings import Settings
from kilonova.db.cells import Cell
from kilonova.db.database import Database, Tx
from kilonova.db.tables import api, cell
from kilonova.domain.guest import FixedIp, FlavorSpec, HostReport, ImageRef, Nic, PowerState
from kilonova.domain.resources import CellRow
from kilonova.domain.server import Private, Server, ServerFault, VolumeRef, addresses
from kilonova.domain.states import VmState
from kilonova.store import mappings, nodes, servers, services
from tests.support.cloud import CELL1, OTHER, PROJECT, Cloud
from tests.support.compute import NOW

CELLS = (
    CELL1,
    "00000000-0000-4000-8000-0000000000c2",
    "00000000-0000-4000-8000-0000000000c3",
)
HOSTS = 20
"""Hosts of a cell."""

PROJECTS = (PROJECT, OTHER, *(f"{number:032x}" for number in range(1, 40)))
FLAVORS = tuple(
    FlavorSpec(number, str(number), f"m1.s{number}", number, 512 * number, number)
    for number in range(1, 6)
)
IMAGES = tuple(
    ImageRef(str(uuid.UUID(int=number, version=4)), f"image{number}", size=1 << 20)
    for number in range(1, 5)
)
STATES = (
    *[(VmState.ACTIVE, PowerState.RUNNING)] * 14,
    *[(VmState.STOPPED, PowerState.SHUTDOWN)] * 3,
    (VmState.PAUSED, PowerState.PAUSED),
    (VmState.ERROR, PowerState.NOSTATE),
)
WORDS = ("web", "db", "cache", "queue", "Proxy", "batch", "web_a", "w%b")
TAGS = ("blue", "green", "red", "spot", "keep")
YEAR = 365 * 24 * 3600
CHUNK = 1000


def crowd(count: int, *, seed: int = 1, cells: int = len(CELLS)) -> Iterator[tuple[int, Server]]:
    """(number of the cell, server), ``count`` of them; the same ones for the same seed.

    Half of them are `PROJECT`'s. Times, names and all else repeat, so that orders have ties.
    """
    chance = random.Random(seed)
    numbers = [0] * cells
    for place in range(count):
        cell_number = place % cells
        numbers[cell_number] += 1
        yield cell_number, _server(chance, cell_number, numbers[cell_number], place)


def _server(chance: random.Random, cell_number: int, number: int, place: int) -> Server:
    created = NOW - dt.timedelta(seconds=chance.randrange(0, YEAR, 60))
    updated = created + dt.timedelta(seconds=chance.randrange(1, 60 * 60 * 24))
    state, power = chance.choice(STATES)
    deleted = chance.random() < 0.05
    host = f"h{cell_number}-{chance.randrange(HOSTS)}"
    project = PROJECT if chance.random() < 0.5 else chance.choice(PROJECTS[1:])
    found = Server(
        id=str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        number=number,
        project_id=project,
        user_id=f"user{chance.randrange(50)}",
        name=f"{chance.choice(WORDS)}-{chance.randrange(10000):05}",
        hostname=f"guest-{place}",
        description=chance.choice((None, "", "a thing", "another")),
        vm_state=str(VmState.DELETED if deleted else state),
        power_state=int(PowerState.NOSTATE if deleted else power),
        host=host,
        node=host,
        availability_zone=f"az{cell_number % 2}",
        flavor=chance.choice(FLAVORS),
        image=chance.choice((*IMAGES, None)),
        metadata={"role": chance.choice(WORDS), "team": f"t{chance.randrange(20)}"},
        security_groups=("default",),
        key_name=chance.choice((None, "mine", "ours")),
        config_drive=chance.random() < 0.2,
        locked_by=chance.choice((None, None, None, "owner", "admin")),
        reservation_id=f"r-{place // 10:08x}",
        root_device="/dev/vda",
        created_at=created,
        updated_at=updated,
        launched_at=created + dt.timedelta(seconds=30),
        terminated_at=updated if deleted else None,
        deleted=deleted,
        tags=tuple(sorted(chance.sample(TAGS, chance.randrange(3)))),
        volumes=(VolumeRef(str(uuid.UUID(int=place))),) if chance.random() < 0.2 else (),
        fault=ServerFault(500, "No valid host", updated) if state == VmState.ERROR else None,
    )
    return msgspec.structs.replace(found, addresses=addresses([nic(place)]))


def nic(place: int) -> Nic:
    """The network card of the server made at that place: an address of each version."""
    high, low = divmod(place, 250)
    four = f"10.{high // 250}.{high % 250}.{low + 1}"
    return Nic(
        port_id=str(uuid.UUID(int=place + 1)),
        mac=f"fa:16:{place >> 24 & 255:02x}:{place >> 16 & 255:02x}:"
        f"{place >> 8 & 255:02x}:{place & 255:02x}",
        network_id=str(uuid.UUID(int=7)),
        network_label="private",
        ips=(
            FixedIp(four, "s4", "10.0.0.0/8"),
            FixedIp(f"fd00::{place:x}", "s6", "fd00::/64", version=6),
        ),
    )


class Crowd(Cloud):
    """The Compute API over a crowd; ``everyone`` holds the servers where ``keep`` is asked."""

    def __init__(
        self,
        folder: Path,
        count: int,
        *,
        keep: bool = True,
        settings: Settings | None = None,
        hosts: int = HOSTS,
    ) -> None:
        """``count`` servers, ``hosts`` hosts in each cell (of which servers use 20 at most)."""
        super().__init__(settings, folder=folder)
        self._hosts = hosts
        self.more = [
            Cell(each, f"cell{place}", Database(f"sqlite:///{folder}/cell{place}.db"))
            for place, each in enumerate(CELLS[1:], 2)
        ]
        for each in self.more:
            cell.metadata.create_all(each.db.engine)
        self.crowded = [self.cell1, *self.more]
        self.services.cells.replace([self.cell0, *self.crowded])
        self.everyone: list[Server] = []
        self._write(count, keep=keep)

    def close(self) -> None:
        """Close all databases."""
        for each in self.more:
            each.db.close()
        super().close()

    def lose(self, place: int) -> None:
        """A cell's database cannot be reached any more."""
        gone = self.crowded[place]
        lost = Database("postgresql://nobody@127.0.0.1:1/none", name=gone.name)
        self.crowded[place] = msgspec.structs.replace(gone, db=lost)
        self.services.cells.replace([self.cell0, *self.crowded])
        gone.db.close()
        if place:
            self.more[place - 1] = self.crowded[place]
        else:
            self.cell1 = self.crowded[0]

    def _write(self, count: int, *, keep: bool) -> None:
        self.db.run_sync(self._places)
        for place, each in enumerate(self.crowded):
            each.db.run_sync(_hosts, place, self._hosts)
        source = crowd(count)
        begun = 0
        while part := list(islice(source, CHUNK)):
            self.db.run_sync(_mapped, part)
            for place, each in enumerate(self.crowded):
                own = [
                    (begun + number, server)
                    for number, (where, server) in enumerate(part)
                    if where == place
                ]
                each.db.run_sync(_rows, own)
            begun += len(part)
            if keep:
                self.everyone += [server for _, server in part]
        for db in (self.db, *(one.db for one in self.crowded)):
            db.run_sync(lambda tx: tx.exec_driver_sql("ANALYZE"))

    def _places(self, tx: Tx) -> None:
        for place, each in enumerate(CELLS):
            if place:
                mappings.add_cell(tx, CellRow(each, f"cell{place + 1}", "memory://", "sqlite://"))
            for number in range(self._hosts):
                mappings.map_host(tx, f"h{place}-{number}", each)


def _hosts(tx: Tx, place: int, count: int) -> None:
    for number in range(count):
        host = f"h{place}-{number}"
        key = (place + 1) * 1000 + number
        services.heartbeat(tx, host, "nova-compute", uuid=str(uuid.UUID(int=key)), now=NOW)
        report = HostReport(host, "QEMU", 7002000, 4, 8192, 100)
        nodes.save(tx, uuid=str(uuid.UUID(int=key)), host=host, report=report, now=NOW)


def _mapped(tx: Tx, part: Sequence[tuple[int, Server]]) -> None:
    rows = [
        {
            "server_id": server.id,
            "cell_id": CELLS[place],
            "project_id": server.project_id,
            "user_id": server.user_id,
            "queued_for_delete": server.deleted,
            "vcpus": server.flavor.vcpus,
            "memory_mb": server.flavor.memory_mb,
            "created_at": server.created_at,
        }
        for place, server in part
    ]
    tx.execute(api.instance_mappings.insert(), rows)


def _rows(tx: Tx, part: Sequence[tuple[int, Server]]) -> None:
    if not part:
        return
    tx.execute(cell.instances.insert(), [servers.row(server, Private()) for _, server in part])
    tags: list[dict[str, Any]] = []
    cards: list[dict[str, Any]] = []
    ips: list[dict[str, Any]] = []
    for place, server in part:
        tags += [{"server_id": server.id, "tag": tag} for tag in server.tags]
        card = nic(place)
        cards.append({"server_id": server.id, "position": 0, "port_id": card.port_id, "nic": card})
        ips += [{"server_id": server.id, "address": ip.address} for ip in card.ips]
    for table, rows in ((cell.tags, tags), (cell.nics, cards), (cell.fixed_ips, ips)):
        if rows:
            tx.execute(table.insert(), rows)
