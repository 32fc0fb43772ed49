"""A server's cards follow its ports, also those that somebody deleted."""

from __future__ import annotations

import msgspec
import pytest

from kilonova.base.ids import RandomIds
from kilonova.db.cells import Cell
from kilonova.domain.sagas import ServerArgs
from kilonova.store import servers
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.harness import states
from kilonova.workflows.reconcilers.networks import NetworkInfo
from tests.sagas.cloud import CELL, HOSTS, SERVER, CloudStage, opened
from tests.sagas.scenarios import There


class TwoCards(There):
    """It has the two cards of the stage."""

    nics = CloudStage.nics


def info(stage: CloudStage, patience: float = 60) -> NetworkInfo:
    return NetworkInfo(
        db=stage.api,
        cells=stage.cells,
        networks=stage.network,
        clock=stage.clock,
        ids=RandomIds(),
        patience=patience,
    )


def cards(stage: CloudStage) -> list[tuple[str, str | None]]:
    return [(nic.port_id, nic.tag) for nic in stage.cell.run_sync(servers.get_nics, SERVER)]


def in_guest(stage: CloudStage) -> set[str]:
    return {
        port
        for host in HOSTS
        for there in stage.fakes.guests(host).values()
        for port in there.cards
    }


async def test_addresses_change_and_tags_stay() -> None:
    async with opened(TwoCards()) as stage:
        port = stage.network.table["port-2"]
        moved = msgspec.structs.replace(port, ips=(("10.0.0.99", "s1"),))
        stage.network.table["port-2"] = moved
        await info(stage).network_changed(ServerArgs(SERVER))
        server = stage.cell.run_sync(servers.get, SERVER)
        assert server is not None
        assert "10.0.0.99" in bytes(server.addresses).decode()
        assert cards(stage) == [("port-1", None), ("port-2", "second")]
        assert [name for name, _ in await states(stage.databases)] == ["server.build"]


@pytest.mark.parametrize("how", ["told", "looked for"])
async def test_cards_without_ports_leave_the_guest_one_after_the_other(how: str) -> None:
    async with opened(TwoCards()) as stage:
        assert in_guest(stage) == {"port-1", "port-2"}
        stage.network.table.clear()
        for left in (1, 0):
            if how == "told":
                await info(stage).network_changed(ServerArgs(SERVER))
            else:
                await info(stage).heal(Cell(CELL, "cell1", stage.cell))
            await Runner(stage.kit()).drain()
            assert len(cards(stage)) == len(in_guest(stage)) == left
        ended = [
            row for row in await states(stage.databases) if row[0] == "server.detach_interface"
        ]
        assert ended == [("server.detach_interface", "done")] * 2


async def test_an_empty_answer_costs_no_card() -> None:
    async with opened(TwoCards()) as stage:

        async def nothing(*_asked: object, **_more: object) -> list[object]:
            return []

        stage.network.nics = nothing  # type: ignore[assignment]
        await info(stage).network_changed(ServerArgs(SERVER))
        await Runner(stage.kit()).drain()
        assert len(cards(stage)) == len(in_guest(stage)) == 2


async def test_what_holds_the_server_ends_before() -> None:
    async with opened(TwoCards()) as stage:
        await stage.delete()
        stage.network.table.clear()
        await info(stage).heal(Cell(CELL, "cell1", stage.cell))
        assert len(cards(stage)) == 2
        await Runner(stage.kit()).drain()
        assert stage.cell.run_sync(servers.get, SERVER) is None


async def test_what_a_guest_does_not_let_go_of_is_forgotten() -> None:
    async with opened(TwoCards()) as stage:
        del stage.network.table["port-1"]
        await info(stage, patience=-1).network_changed(ServerArgs(SERVER))
        assert cards(stage) == [("port-2", "second")]
        assert in_guest(stage) == {"port-1", "port-2"}
        assert [name for name, _ in await states(stage.databases)] == ["server.build"]
