"""The store's statements on every engine: a server's whole life, pages, quotas."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest

from kilonova.base.errors import Conflict, Forbidden, NotFound
from kilonova.db.database import Database, Tx, counted
from kilonova.db.tables import api, cell
from kilonova.domain.guest import FlavorSpec, HostReport, PowerState
from kilonova.domain.resources import KeyPair
from kilonova.domain.server import ServerFault
from kilonova.domain.states import Task, VmState
from kilonova.store import (
    actions,
    aggregates,
    flavors,
    keypairs,
    lists,
    mappings,
    nodes,
    quotas,
    servers,
    services,
)
from tests.support.compute import DISK, NIC, NOW, request, server, server_id

CELL = "11111111-1111-1111-1111-111111111111"
LIMITS = {"instances": 3, "cores": 20, "ram": 51200}


@pytest.fixture
def db(database: Database) -> Iterator[Database]:
    """API and cell tables in one database."""
    api.metadata.create_all(database.engine)
    # What both kinds have is there once.
    cell.metadata.create_all(database.engine)
    yield database


def place(tx: Tx, number: int, **values: object) -> None:
    made, spec = request(number, **values)
    servers.accept(tx, [(made, spec)])
    servers.move_to_cell(tx, made, host="h1", node="h1", zone="nova", now=NOW)
    mappings.place(tx, made.server.id, CELL)


def test_life(db: Database) -> None:  # noqa: PLR0915  (one life, told in order)
    made, spec = request(1)
    sid = made.server.id

    def accept(tx: Tx) -> None:
        assert servers.accepted(tx, [sid]) == []
        servers.accept(tx, [(made, spec)])
        assert servers.accepted(tx, [sid, "x"]) == [sid]
        found = servers.building(tx, sid)
        assert found == made
        assert mappings.find_spec(tx, sid) == spec
        assert lists.building(tx, lists.ServerFilter(project_id="p1")) == [made]
        assert lists.building(tx, lists.ServerFilter(project_id="p2")) == []

    def move(tx: Tx) -> None:
        for _ in range(2):
            moved = servers.move_to_cell(tx, made, host="h1", node="n1", zone="z", now=NOW)
            mappings.place(tx, sid, CELL)
        assert moved.number > 0
        assert moved.guest_name == f"instance-{moved.number:08x}"
        assert (moved.host, moved.node, moved.availability_zone) == ("h1", "n1", "z")
        assert set(moved.tags) == {"red", "n1"}
        assert lists.building(tx, lists.ServerFilter()) == []
        assert servers.change_building(tx, sid, lambda r: r) is None
        (action,) = actions.page(tx, sid) or []
        assert (action.action, action.request_id, action.user_id) == ("create", "req-1", "u1")
        private = servers.private(tx, sid)
        assert private is not None
        assert (private.disks, private.user_data) == ((DISK,), "aGk=")

    def run(tx: Tx) -> None:
        servers.set_nics(tx, sid, [NIC], now=NOW)
        done = servers.finish(tx, sid, VmState.ACTIVE, power=PowerState.RUNNING, now=NOW)
        mappings.forget_request(tx, sid)
        assert (done.vm_state, done.task_state, done.launched_at) == ("active", None, NOW)
        assert b"10.0.0.5" in bytes(done.addresses)
        assert servers.by_address(tx, "10.0.0.5") == [sid]
        spec_left = mappings.find_spec(tx, sid)
        assert spec_left is not None
        assert spec_left.admin_pass is None
        with pytest.raises(Conflict, match=f"Cannot 'start' instance {sid} while it is in vm_st"):
            servers.begin(tx, sid, "os-start", task=Task.POWERING_ON, now=NOW)
        servers.begin(tx, sid, "os-stop", task=Task.POWERING_OFF, now=NOW)
        with pytest.raises(Conflict, match="task_state powering-off"):
            servers.begin(tx, sid, "os-stop", task=Task.POWERING_OFF, now=NOW)
        assert not servers.set_task(tx, sid, None, now=NOW, expected=[None, Task.SPAWNING])
        assert servers.set_task(tx, sid, None, now=NOW, expected=[Task.POWERING_OFF])

    def end(tx: Tx) -> None:
        fault = ServerFault(500, "broken", NOW, "trace")
        servers.set_error(tx, sid, fault, now=NOW)
        shown = servers.get(tx, sid, servers.EVERYTHING)
        assert shown is not None
        assert shown.fault == fault
        assert shown.user_data == "aGk="
        servers.delete(tx, sid, now=NOW)
        servers.delete(tx, sid, now=NOW)
        mappings.release(tx, sid)
        assert servers.get(tx, sid) is None
        gone = servers.get(tx, sid, deleted=True)
        assert gone is not None
        assert (gone.vm_state, gone.terminated_at, bytes(gone.addresses)) == ("deleted", NOW, b"{}")
        assert quotas.usage(tx, "p1") == quotas.Usage()
        with pytest.raises(NotFound):
            servers.update(tx, sid, now=NOW, name="x")

    for part in (accept, move, run, end):
        db.run_sync(part)


def test_leave_cell_and_come_back(db: Database) -> None:
    made, spec = request(1)

    def work(tx: Tx) -> None:
        servers.accept(tx, [(made, spec)])
        servers.move_to_cell(tx, made, host="h1", node="h1", zone=None, now=NOW)
        servers.leave_cell(tx, made.server.id)
        servers.leave_cell(tx, made.server.id)
        assert servers.get(tx, made.server.id, deleted=True) is None
        assert actions.page(tx, made.server.id) == []
        again = servers.move_to_cell(tx, made, host="h2", node="h2", zone=None, now=NOW)
        assert again.host == "h2"

    db.run_sync(work)


def test_pages(db: Database) -> None:
    def fill(tx: Tx) -> None:
        for number in range(1, 8):
            place(tx, number, project_id="p1" if number < 6 else "p2")
        servers.finish(tx, server_id(2), VmState.ACTIVE, power=1, now=NOW)
        servers.set_nics(tx, server_id(2), [NIC], now=NOW)
        servers.set_error(tx, server_id(3), ServerFault(500, "x", NOW), now=NOW)

    def ask(tx: Tx) -> None:
        def numbers(limit: int = 10, order: object = None, **wanted: object) -> list[int]:
            marker = wanted.pop("marker", None)
            found = lists.page(
                tx,
                lists.ServerFilter(**wanted),  # type: ignore[arg-type]
                order or lists.DEFAULT_ORDER,  # type: ignore[arg-type]
                limit=limit,
                marker=servers.get(tx, server_id(marker)) if marker else None,  # type: ignore[arg-type]
            )
            return [int(s.id[-3:]) for s in found]

        assert numbers() == [7, 6, 5, 4, 3, 2, 1]
        assert numbers(project_id="p1") == [5, 4, 3, 2, 1]
        assert numbers(limit=2, marker=5, project_id="p1") == [4, 3]
        up = (lists.Order("name", False), lists.Order("uuid", False))
        assert numbers(order=up, marker=2, project_id="p1") == [3, 4, 5]
        by_launch = (lists.Order("launched_at", True), lists.Order("uuid", True))
        assert numbers(order=by_launch, limit=2) == [2, 7]
        assert numbers(order=by_launch, marker=2, limit=2) == [7, 6]
        assert numbers(patterns={"name": "er-[12]$"}) == [2, 1]
        assert numbers(patterns={"name": "R-1"}) in ([], [1])
        assert numbers(equal={"host": ("h1",), "vm_state": ("active", "error")}) == [3, 2]
        assert numbers(states=(("building", None, ()),), project_id="p1") == [5, 4, 1]
        assert numbers(states=(("building", ("spawning",), ()),)) == []
        assert numbers(states=(("building", None, ("scheduling",)),)) == []
        assert numbers(addresses=((4, "10.0.0"),)) == [2]
        assert numbers(addresses=((6, "10.0.0"),)) == []
        assert numbers(tags_all=("red", "n4")) == [4]
        assert numbers(tags_any=("n1", "n4")) == [4, 1]
        assert numbers(tags_not_any=("n1", "n4"), project_id="p1") == [5, 3, 2]
        assert numbers(tags_not_all=("red", "n4"), project_id="p1") == [5, 3, 2, 1]
        assert numbers(metadata=(("k", "v"),), limit=1) == [7]
        assert numbers(metadata=(("k", "w"),)) == []
        assert numbers(image_id="70a599e0-31e7-49b7-b260-868f441e862b", limit=1) == [7]
        assert numbers(image_id="70a599e0_31e7-49b7-b260-868f441e862b") == []
        assert numbers(flavor_id="1", limit=1) == [7]
        assert numbers(flavor_id="2") == []
        assert numbers(changes_since=NOW + dt.timedelta(seconds=1)) == []
        assert numbers(locked=True) == []
        assert numbers(ids=(server_id(3), server_id(1))) == [3, 1]
        with counted() as statements:
            lists.page(tx, lists.ServerFilter(), limit=7, extras=servers.EVERYTHING)
        assert len(statements) == 1

    db.run_sync(fill)
    db.run_sync(ask)


def test_merge() -> None:
    parts = [[server(5), server(1)], [server(4), server(2), server(1)]]
    merged = lists.merge(parts, lists.DEFAULT_ORDER, 3, None)
    assert [s.name for s in merged] == ["server-5", "server-4", "server-2"]
    rest = lists.merge(parts, lists.DEFAULT_ORDER, 3, server(4))
    assert [s.name for s in rest] == ["server-2", "server-1"]


def test_quota(db: Database) -> None:
    def fit(tx: Tx, least: int, most: int, **more: int) -> int:
        size = {"vcpus": 2, "memory_mb": 1024, **more}
        quotas.lock(tx, "p1")
        checks = [
            (quotas.limits(tx, LIMITS, "p1"), quotas.usage(tx, "p1")),
            (quotas.limits(tx, LIMITS, "p1", "u1"), quotas.usage(tx, "p1", "u1")),
        ]
        return quotas.room(checks, least=least, most=most, **size)

    def work(tx: Tx) -> None:
        assert fit(tx, 1, 2) == 2
        place(tx, 1)
        place(tx, 2)
        assert fit(tx, 1, 5) == 1
        text = "Quota exceeded for instances: Requested 2, but already used 2 of 3 instances"
        with pytest.raises(Forbidden, match=text):
            fit(tx, 2, 2)
        quotas.set_limits(tx, {"instances": -1, "cores": 2}, "p1")
        with pytest.raises(Forbidden, match="Quota exceeded for cores: Requested 2, but already"):
            fit(tx, 1, 1)
        quotas.set_limits(tx, {"cores": 40}, "p1")
        quotas.set_limits(tx, {"ram": 1024}, "p1", "u1")
        with pytest.raises(Forbidden, match="ram"):
            fit(tx, 1, 1)
        quotas.reset(tx, "p1")
        assert quotas.limits(tx, LIMITS, "p1", "u1") == LIMITS
        quotas.set_class_limits(tx, {"instances": 7}, "default")
        assert quotas.limits(tx, LIMITS, "p1")["instances"] == 7

    db.run_sync(work)


def test_flavors_and_keys(db: Database) -> None:
    def work(tx: Tx) -> None:
        for number in range(3):
            flavors.create(
                tx,
                FlavorSpec(0, f"f{number}", f"n{number}", 1, 256 * number, 1, is_public=number < 2),
                now=NOW,
            )
        with pytest.raises(Conflict, match="name n1"):
            flavors.create(tx, FlavorSpec(0, "x", "n1", 1, 1, 1), now=NOW)

        def ids(**more: object) -> list[str]:
            found = flavors.page(tx, project_id="p1", **more)  # type: ignore[arg-type]
            return [f.flavorid for f in found or []]

        assert ids() == ["f0", "f1"]
        assert ids(is_public=None) == ["f0", "f1", "f2"]
        assert ids(is_public=False) == ["f2"]
        assert ids(marker="f0") == ["f1"]
        assert ids(min_ram=100) == ["f1"]
        assert flavors.page(tx, project_id="p1", marker="zz") is None
        assert flavors.get(tx, "f2", project_id="p1") is None
        private = flavors.get(tx, "f2", everybody=True)
        assert private is not None
        flavors.add_project(tx, private.id, "p1")
        assert ids() == ["f0", "f1", "f2"]
        assert flavors.change_extra_specs(tx, "f0", now=NOW, put={"a": "1", "b": "2"}) == {
            "a": "1",
            "b": "2",
        }
        assert flavors.change_extra_specs(tx, "f0", now=NOW, remove=["a"]) == {"b": "2"}
        with pytest.raises(NotFound):
            flavors.change_extra_specs(tx, "f0", now=NOW, remove=["a"])
        flavors.delete(tx, "f2")
        for name in ("k2", "k1"):
            keypairs.create(tx, KeyPair(0, "u1", name, "ssh", "ff", "ssh-rsa x", NOW), limit=2)
        with pytest.raises(Forbidden):
            keypairs.create(tx, KeyPair(0, "u1", "k3", "ssh", "ff", "", NOW), limit=2)
        with pytest.raises(Conflict):
            keypairs.create(tx, KeyPair(0, "u1", "k1", "ssh", "ff", "", NOW), limit=-1)
        assert [k.name for k in keypairs.page(tx, "u1") or []] == ["k1", "k2"]
        assert [k.name for k in keypairs.page(tx, "u1", marker="k1") or []] == ["k2"]
        assert keypairs.delete(tx, "u1", "k1")
        assert not keypairs.delete(tx, "u1", "k1")

    db.run_sync(work)


def test_hosts(db: Database) -> None:
    def work(tx: Tx) -> None:
        for _ in range(2):
            service = services.heartbeat(tx, "h1", "nova-compute", uuid="s1", now=NOW)
        assert service.report_count == 2
        assert service.is_up(NOW, 60)
        assert not service.is_up(NOW + dt.timedelta(seconds=61), 60)
        report = HostReport("n1", "QEMU", 7002000, 4, 8192, 100)
        for _ in range(2):
            nodes.save(tx, uuid="n-uuid", host="h1", report=report, now=NOW)
        place(tx, 1)
        (node,) = nodes.page(tx)
        assert (node.report, node.running_vms, node.workload) == (report, 1, 1)
        mappings.map_host(tx, "h1", CELL)
        mappings.map_host(tx, "h1", "other")
        assert mappings.host_cells(tx) == {"h1": CELL}
        zone = aggregates.create(
            tx, uuid="a", name="a", metadata={"availability_zone": "z1"}, now=NOW
        )
        aggregates.add_host(tx, zone.id, "h1", now=NOW)
        other = aggregates.create(
            tx, uuid="b", name="b", metadata={"availability_zone": "z2"}, now=NOW
        )
        with pytest.raises(Conflict, match="already in the availability zone z1"):
            aggregates.add_host(tx, other.id, "h1", now=NOW)
        assert aggregates.zones(tx) == {"h1": "z1"}
        with pytest.raises(Conflict):
            aggregates.delete(tx, zone.id)

    db.run_sync(work)


def test_actions(db: Database) -> None:
    def work(tx: Tx) -> None:
        for number in range(3):
            actions.start(
                tx,
                "s",
                "stop",
                request_id=f"r{number}",
                user_id="u",
                project_id="p",
                now=NOW + dt.timedelta(seconds=number),
            )
        actions.start_event(tx, "s", "r1", "compute_stop_instance", now=NOW, host="h1")
        actions.finish_event(tx, "s", "r1", "compute_stop_instance", now=NOW, error="no")
        actions.finish(tx, "s", "r2", now=NOW)
        assert [a.request_id for a in actions.page(tx, "s") or []] == ["r2", "r1", "r0"]
        assert [a.request_id for a in actions.page(tx, "s", marker="r2", limit=1) or []] == ["r1"]
        assert actions.page(tx, "s", marker="zz") is None
        shown = actions.show(tx, "s", "r1")
        assert shown is not None
        assert (shown.message, shown.events[0].result, shown.events[0].details) == (
            "Error",
            "Error",
            "no",
        )

    db.run_sync(work)
