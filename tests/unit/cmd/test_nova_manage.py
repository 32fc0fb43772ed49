"""nova-manage: what it does and the exit codes of its documentation."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from kilonova.cmd import nova_manage
from kilonova.db.cells import CELL0
from kilonova.db.database import Database
from kilonova.db.tables.api import host_mappings, instance_mappings
from kilonova.domain.guest import HostReport
from kilonova.store import mappings, nodes, servers, services
from tests.support.compute import request, server_id
from tests.unit.services.test_startup import logging_as_before

__all__ = ["logging_as_before"]

Manage = Callable[..., int]
SERVER = server_id(1)
NOWHERE = "6d2f1f6a-8f0c-4a55-9f0e-1a1f3f0d0002"
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "nova.conf"
    path.write_text(
        f"[DEFAULT]\ntransport_url = rabbit://me:secret@broker/\n"
        f"[api_database]\nconnection = sqlite:///{tmp_path}/api.db\n"
        f"[database]\nconnection = sqlite:///{tmp_path}/cell.db\n"
    )
    return path


@pytest.fixture
def manage(file: Path) -> Manage:
    def run(*argv: str) -> int:
        return nova_manage.main(["--config-file", str(file), *argv])

    return run


@pytest.fixture
def ready(manage: Manage) -> Manage:
    """A deployment with its schemas and one cell."""
    for argv in (
        ("api_db", "sync"),
        ("cell_v2", "map_cell0"),
        ("cell_v2", "create_cell", "--name", "cell1"),
        ("db", "sync"),
    ):
        assert manage(*argv) == 0
    return manage


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Database]:
    db = Database(f"sqlite:///{tmp_path}/api.db")
    yield db
    db.close()


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Database]:
    db = Database(f"sqlite:///{tmp_path}/cell.db")
    yield db
    db.close()


def cell1(api: Database) -> str:
    return next(row.uuid for row in api.run_sync(mappings.cells) if row.uuid != CELL0)


def map_server(api: Database, server_id: str, cell_id: str | None, *, deleted: bool) -> None:
    values = {
        "server_id": server_id,
        "cell_id": cell_id,
        "project_id": "p",
        "user_id": "u",
        "queued_for_delete": deleted,
        "vcpus": 1,
        "memory_mb": 1,
        "created_at": NOW,
    }
    api.run_sync(lambda tx: tx.execute(instance_mappings.insert().values(**values)))


def test_syncing_needs_cell0_unless_told(manage: Manage) -> None:
    assert manage("db", "sync") == 1
    assert manage("api_db", "sync") == 0
    assert manage("db", "sync") == 1
    assert manage("db", "sync", "--local_cell") == 0
    assert manage("cell_v2", "map_cell0") == 0
    assert manage("db", "sync") == 0
    assert manage("db", "sync") == 0


def test_versions(manage: Manage, capsys: pytest.CaptureFixture[str]) -> None:
    manage("api_db", "version")
    assert capsys.readouterr().out == "None\n"
    manage("api_db", "sync")
    manage("api_db", "version")
    assert capsys.readouterr().out == "0005\n"
    assert manage("db", "sync", "--local_cell", "999") == 1
    assert "There is no version 999" in capsys.readouterr().err


def test_online_data_migrations(ready: Manage, capsys: pytest.CaptureFixture[str]) -> None:
    assert ready("db", "online_data_migrations", "--max-count", "0") == 127
    assert ready("db", "online_data_migrations") == 0
    assert "| Migration | Total Needed | Completed |" in capsys.readouterr().out


def test_cell0_is_mapped_once(ready: Manage, api: Database) -> None:
    assert ready("cell_v2", "map_cell0") == 0
    row = api.run_sync(mappings.cells)[0]
    assert (row.uuid, row.name) == (CELL0, "cell0")
    assert row.database.endswith("cell_cell0.db")


def test_creating_cells(
    ready: Manage, api: Database, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = ("--transport-url", "rabbit://other/", "--database_connection", "sqlite:///other.db")
    assert ready("cell_v2", "create_cell", "--name", "cell2") == 2
    assert ready("cell_v2", "create_cell", "--database_connection", "nonsense") == 1
    assert ready("cell_v2", "create_cell", *new, "--disabled", "--verbose") == 0
    uuid = capsys.readouterr().out.splitlines()[-1]
    row = next(r for r in api.run_sync(mappings.cells) if r.uuid == uuid)
    assert row.disabled and row.name is None
    file.write_text(file.read_text().replace("transport_url", "other_url"))
    assert ready("cell_v2", "create_cell", "--database_connection", "sqlite:///x") == 1


def test_listing_cells_hides_passwords(ready: Manage, capsys: pytest.CaptureFixture[str]) -> None:
    assert ready("cell_v2", "list_cells") == 0
    hidden = capsys.readouterr().out
    assert "rabbit://me:***@broker/" in hidden and "secret" not in hidden
    head = [cell.strip() for cell in hidden.splitlines()[1].strip("|").split("|")]
    assert head == ["Name", "UUID", "Transport URL", "Database Connection", "Disabled"]
    assert ready("cell_v2", "list_cells", "--verbose") == 0
    assert "rabbit://me:secret@broker/" in capsys.readouterr().out


def test_changing_cells(ready: Manage, api: Database) -> None:
    own = cell1(api)
    other = ("--transport-url", "rabbit://two/", "--database_connection", "sqlite:///two.db")
    assert ready("cell_v2", "create_cell", *other) == 0
    update = ("cell_v2", "update_cell", "--cell_uuid")
    assert ready(*update, NOWHERE, "--name", "x") == 1
    assert ready(*update, own, *other) == 3
    assert ready(*update, own, "--disable", "--enable") == 4
    assert ready(*update, CELL0, "--disable") in (3, 5)
    cell0 = next(r for r in api.run_sync(mappings.cells) if r.uuid == CELL0)
    urls = ("--transport-url", cell0.transport_url, "--database_connection", cell0.database)
    assert ready(*update, CELL0, "--disable", *urls) == 5
    assert ready(*update, own, "--disable", "--name", "renamed") == 0
    row = next(r for r in api.run_sync(mappings.cells) if r.uuid == own)
    assert (row.name, row.disabled) == ("renamed", True)
    assert ready(*update, own, "--enable") == 0
    assert not next(r for r in api.run_sync(mappings.cells) if r.uuid == own).disabled


def test_deleting_cells(ready: Manage, api: Database) -> None:
    own = cell1(api)
    delete = ("cell_v2", "delete_cell", "--cell_uuid")
    assert ready(*delete, NOWHERE) == 1
    api.run_sync(mappings.map_host, "a", own)
    assert ready(*delete, own) == 2
    map_server(api, SERVER, own, deleted=False)
    assert ready(*delete, own, "--force") == 3
    api.run_sync(lambda tx: tx.execute(instance_mappings.update().values(queued_for_delete=True)))
    api.run_sync(lambda tx: tx.execute(host_mappings.delete()))
    assert ready(*delete, own) == 4
    assert ready(*delete, own, "--force") == 0
    assert [row.uuid for row in api.run_sync(mappings.cells)] == [CELL0]


def test_hosts_are_discovered(
    ready: Manage, api: Database, cell: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    discover = ("cell_v2", "discover_hosts")
    assert ready(*discover) == 0
    assert ready(*discover, "--strict") == 1
    assert ready(*discover, "--cell_uuid", NOWHERE) == 1
    cell.run_sync(services.heartbeat, "a", "nova-compute", uuid=SERVER, now=NOW)
    assert ready(*discover, "--strict") == 1
    capsys.readouterr()
    assert ready(*discover, "--strict", "--by-service", "--verbose") == 0
    assert "mapped host a" in capsys.readouterr().out
    assert ready(*discover, "--strict", "--by-service") == 1
    assert ready("cell_v2", "list_hosts", "--cell_uuid", NOWHERE) == 1
    assert ready("cell_v2", "list_hosts") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [c.strip() for c in lines[-2].strip("|").split("|")] == ["cell1", cell1(api), "a"]


def test_deleting_hosts(ready: Manage, api: Database, cell: Database) -> None:
    own = cell1(api)
    api.run_sync(mappings.map_host, "a", own)
    delete = ("cell_v2", "delete_host", "--cell_uuid")
    assert ready(*delete, NOWHERE, "--host", "a") == 1
    assert ready(*delete, own, "--host", "b") == 2
    assert ready(*delete, CELL0, "--host", "a") == 3
    add_server(cell)
    assert ready(*delete, own, "--host", "a") == 4
    cell.run_sync(lambda tx: tx.execute(sa.text("UPDATE instances SET deleted = 1")))
    assert ready(*delete, own, "--host", "a") == 0
    assert api.run_sync(mappings.host_cell, "a") is None


def test_verifying_servers(ready: Manage, api: Database, cell: Database) -> None:
    verify = ("cell_v2", "verify_instance", "--quiet", "--uuid", SERVER)
    assert ready(*verify) == 1
    map_server(api, SERVER, None, deleted=False)
    assert ready(*verify) == 2
    api.run_sync(mappings.place, SERVER, cell1(api))
    assert ready(*verify) == 4
    add_server(cell)
    assert ready(*verify) == 0
    cell.run_sync(lambda tx: tx.execute(sa.text("UPDATE instances SET deleted = 1")))
    assert ready(*verify) == 3


def test_servers_are_mapped(ready: Manage, api: Database, cell: Database) -> None:
    own = cell1(api)
    map_instances = ("cell_v2", "map_instances", "--cell_uuid")
    assert ready(*map_instances, own, "--max-count", "0") == 127
    assert ready(*map_instances, NOWHERE) == 255
    for number in (1, 2, 3):
        add_server(cell, number)
    assert ready(*map_instances, own, "--max-count", "2") == 1
    assert ready(*map_instances, own, "--max-count", "2") == 0
    found = api.run_sync(mappings.find, server_id(3))
    assert found is not None and (found.cell_id, found.project_id) == (own, "p")


def test_the_simple_setup(manage: Manage, api: Database, cell: Database, file: Path) -> None:
    manage("api_db", "sync")
    manage("db", "sync", "--local_cell")
    assert manage("cell_v2", "simple_cell_setup") == 1
    assert [row.name for row in api.run_sync(mappings.cells)] == ["cell0", "cell1"]
    add_node(cell, "a")
    assert manage("cell_v2", "simple_cell_setup") == 0
    assert api.run_sync(mappings.host_cells) == {"a": cell1(api)}
    add_node(cell, "b")
    assert manage("cell_v2", "map_cell_and_hosts") == 0
    assert set(api.run_sync(mappings.host_cells)) == {"a", "b"}
    file.write_text(file.read_text().replace("transport_url", "other_url"))
    assert manage("cell_v2", "simple_cell_setup") == 1
    assert manage("cell_v2", "map_cell_and_hosts") == 1


def test_trouble_is_one_sentence(
    manage: Manage, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert manage("cell_v2", "list_cells") == 1
    assert capsys.readouterr().err == (
        "nova-manage: The API database is empty: run nova-manage api_db sync.\n"
    )
    file.write_text("[api_database]\nconnection = mysql+pymysql://u:secret@127.0.0.1:1/x\n")
    assert manage("api_db", "sync") == 1
    err = capsys.readouterr().err
    assert "cannot be used" in err and "secret" not in err and "Traceback" not in err
    file.write_text("[api_database]\nconnection = nonsense\n")
    assert manage("api_db", "sync") == 1
    assert "is no database URL" in capsys.readouterr().err


def add_node(cell: Database, host: str) -> None:
    report = HostReport(
        node=host,
        hypervisor_type="fake",
        hypervisor_version=1,
        vcpus=1,
        memory_mb=1,
        disk_gb=1,
    )
    cell.run_sync(nodes.save, uuid=host, host=host, report=report, now=NOW)


def add_server(cell: Database, number: int = 1, *, host: str = "a") -> None:
    made, _ = request(number, project_id="p")
    cell.run_sync(servers.move_to_cell, made, host=host, node=host, zone="nova", now=NOW)
