"""The audit notices what does not match, and tells nothing of what a saga has in hand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.tables import api as api_tables
from kilonova.db.tables import cell as cell_tables
from kilonova.interfaces.network import Port
from kilonova.interfaces.placement import Claim
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.engine.tables import TABLES
from kilonova.workflows.harness import Crash, Script
from tests.sagas.cloud import AMOUNT, opened, provider
from tests.sagas.scenarios import Build, There
from tests.support import compute

OTHER = compute.server_id(2)


@pytest.fixture
async def there() -> AsyncIterator[There]:
    async with opened(There()) as stage:
        yield stage


async def kinds(stage: There | Build) -> list[str]:
    return sorted({line.partition(" ")[0] for line in await stage.audit()})


async def test_a_whole_cloud_is_clean(there: There) -> None:
    assert await kinds(there) == []


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"task_state": "powering-off"}, ["server.unattended"]),
        ({"vm_state": "error"}, ["server.unexplained"]),
        ({"vm_state": "building"}, ["server.unattended"]),
        ({"vm_state": "stopped"}, ["guest.power"]),
        ({"host": None}, ["allocation.orphan", "host.leftover", "port.host", "server.homeless"]),
        (
            {"host": "h2", "node": "h2"},
            ["allocation.elsewhere", "guest.missing", "host.leftover", "port.host"],
        ),
        (
            {"deleted": True},
            ["allocation.orphan", "host.leftover", "port.orphan", "server.missing"],
        ),
    ],
)
async def test_rows_that_do_not_fit(
    there: There, values: dict[str, object], found: list[str]
) -> None:
    await there.cell.run(_update, cell_tables.instances.update().values(**values))
    assert await kinds(there) == found


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"cell_id": None}, ["server.lost", "server.unmapped"]),
        ({"queued_for_delete": True}, ["server.quota"]),
    ],
)
async def test_mappings_that_do_not_fit(
    there: There, values: dict[str, object], found: list[str]
) -> None:
    await there.api.run(_update, api_tables.instance_mappings.update().values(**values))
    assert await kinds(there) == found


async def test_what_nobody_owns(there: There) -> None:
    claim = Claim(OTHER, {provider("h2"): dict(AMOUNT)}, "p1", "u1")
    assert await there.placement.claim(claim)
    there.network.table["x"] = Port("x", "n1", "p1", "fa:16:3e:00:00:77", device_id=OTHER)
    (guest,) = there.fakes.guests("h1").values()
    there.fakes.guests("h2")[OTHER] = guest
    assert await kinds(there) == ["allocation.orphan", "host.leftover", "port.orphan"]


async def test_amounts_that_are_not_the_flavors(there: There) -> None:
    held = await there.placement.allocations_of(there.server)
    claim = Claim(
        there.server,
        {provider("h1"): {**AMOUNT, "MEMORY_MB": AMOUNT["MEMORY_MB"] + 1}},
        held.project_id,
        held.user_id,
        generation=held.generation,
    )
    assert await there.placement.claim(claim)
    assert await there.audit() == [
        f"allocation.amount {there.server}: It holds 513 MEMORY_MB, but its flavor asks for 512."
    ]


async def test_a_network_that_differs_on_a_host(there: There) -> None:
    there.networks_differ["h1"] = ["bridge kvb0 is missing"]
    assert await there.audit() == ["host.network h1: bridge kvb0 is missing."]


async def test_what_a_server_lost(there: There) -> None:
    await there.placement.release(there.server)
    there.network.table.clear()
    there.fakes.guests("h1").clear()
    assert await kinds(there) == ["allocation.missing", "guest.missing", "port.missing"]


async def test_work_under_way_is_no_finding_and_a_lost_saga_is() -> None:
    async with opened(Build()) as stage:
        await stage.start()
        with pytest.raises(Crash):
            await Runner(stage.kit(Script(crash=SPAWNED))).drain()
        assert await stage.audit() == ["a password lies in api at build_on#h1/describe_new"]
        await stage.clock.sleep(1000)
        assert "saga.idle" in await kinds(stage)
        await stage.api.run(_update, TABLES.sagas.delete())
        found = {"saga.hold", "request.left", "secret.left", "server.unattended", "action.open"}
        assert found <= set(await kinds(stage))


SPAWNED = {("effect", "build_on#h1/spawn")}


def _update(tx: Tx, statement: sa.UpdateBase) -> None:
    tx.execute(statement)
