"""What sagas tell: the same notifications in the same order, wherever their conductor dies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from kilonova.base.ids import RandomIds
from kilonova.config.settings import Settings
from kilonova.db.database import Database, Tx, counted
from kilonova.notifications.writer import Writer
from kilonova.store import outbox
from kilonova.store.noting import NOTES
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.harness import SCENARIOS, Crash, JumpClock, Moment, Script, Stage, finish
from tests.sagas import imaging, moves, scenarios

assert scenarios.__doc__
assert imaging.__doc__
assert moves.__doc__
ASKED = "scheduler.select_destinations.start scheduler.select_destinations.end "
EVENTS = {
    "server build": ASKED + "instance.create.start instance.create.end",
    "server build, first host broken": ASKED
    + "instance.create.start instance.create.error compute.exception"
    + " instance.create.start instance.create.end",
    "server build without a valid host": "scheduler.select_destinations.start"
    " compute_task.build_instances.error",
    "server rebuild": ASKED
    + "instance.rebuild_scheduled instance.rebuild.start instance.rebuild.end",
    "server rebuild that fails": ASKED
    + "instance.rebuild_scheduled instance.rebuild.start instance.rebuild.error compute.exception",
    "server rebuild on a host that does not do": "scheduler.select_destinations.start"
    " compute_task.rebuild_server.error",
    "server rescue": "instance.rescue.start instance.rescue.end",
    "server unrescue": "instance.unrescue.start instance.unrescue.end",
    "server create an image": "instance.snapshot.start instance.snapshot.end",
    "server create a backup": "instance.snapshot.start instance.snapshot.end",
    "server create an image in vain": "instance.snapshot.start compute.exception",
    "server stop": "instance.power_off.start instance.power_off.end",
    "server soft reboot": "instance.reboot.start instance.reboot.end",
    "server failing reboot": "instance.reboot.start instance.reboot.error compute.exception",
    "server attach a volume": "instance.volume_attach.start instance.volume_attach.end",
    "server attach a volume in vain": "instance.volume_attach.start instance.volume_attach.error"
    " compute.exception",
    "server swap a volume": "instance.volume_swap.start instance.volume_swap.end",
    "server attach of a card": "instance.interface_attach.start instance.interface_attach.end",
    "server attach of a share": "instance.share_attach.start instance.share_attach.end",
    "server attach of a share, refused": "instance.share_attach.start instance.share_attach.error"
    " compute.exception",
    "server detach of a share": "instance.share_detach.start instance.share_detach.end",
    "server crash dump": "instance.trigger_crash_dump.start instance.trigger_crash_dump.end",
    "server soft delete": "instance.soft_delete.start instance.soft_delete.end",
    "server resize": ASKED
    + "instance.resize_prep.start instance.resize_prep.end"
    + " instance.resize.start instance.resize.end"
    + " instance.resize_finish.start instance.resize_finish.end",
    "server resize without a valid host": "scheduler.select_destinations.start"
    " compute_task.migrate_server.error instance.resize.error compute.exception",
    "server migrate, broken source": ASKED
    + "instance.resize_prep.start instance.resize_prep.end instance.resize.start"
    + " instance.resize.error compute.exception",
    "server confirm a resize": "instance.resize_confirm.start instance.resize_confirm.end",
    "server revert a resize": "instance.resize_revert.start instance.resize_revert.end",
    "server delete": "instance.delete.start instance.shutdown.start"
    " instance.shutdown.end instance.delete.end",
    "server delete in cell0": "instance.delete.start instance.delete.end",
}
TWICE = "scheduler."
"""Asking the scheduler is no transaction: a conductor that dies after it asks and tells again."""


def settings(**more: Any) -> Settings:
    plain = Settings()
    told = msgspec.structs.replace(plain.notifications, notification_format="versioned", **more)
    driver = msgspec.structs.replace(plain.oslo_messaging_notifications, driver=("test",))
    return msgspec.structs.replace(plain, notifications=told, oslo_messaging_notifications=driver)


@contextmanager
def listening(databases: Mapping[str, Database], writer: Writer) -> Iterator[None]:
    for db in databases.values():
        db.attach(NOTES, writer)
    try:
        yield
    finally:
        for db in databases.values():
            db.attach(NOTES, None)


def writer(**more: Any) -> Writer:
    return Writer(settings(**more), binary="nova-conductor", clock=JumpClock(), ids=RandomIds())


async def told(stage: Stage) -> list[str]:
    """Events in the order in which they happened."""
    rows: list[tuple[str, str]] = []
    for db in stage.databases.values():
        for row in await db.read(outbox.batch, 1000):
            rows.append((json.loads(row.message)["timestamp"], row.event))
    return [event for _, event in sorted(rows)]


async def played(name: str, script: Script) -> tuple[list[str], Script]:
    async with SCENARIOS.get(name).stage() as stage:
        with listening(stage.databases, writer()):
            await stage.start()
            await finish(stage, script)
            return await told(stage), script


@pytest.mark.parametrize("name", EVENTS)
async def test_a_crash_loses_and_repeats_nothing(name: str) -> None:
    good, script = await played(name, Script())
    assert good == EVENTS[name].split()
    moments: list[Moment] = list(dict.fromkeys(script.seen))
    for moment in moments[:: max(1, len(moments) // 8)]:
        now, hurt = await played(name, Script(crash={moment}))
        assert hurt.crashes == 1
        assert [e for e in now if not e.startswith(TWICE)] == [
            e for e in good if not e.startswith(TWICE)
        ], moment


async def test_shares_are_told_where_that_is_wanted() -> None:
    async with SCENARIOS.get("server detach of a share").stage() as stage:
        with listening(stage.databases, writer(include_share_mapping=True)):
            await stage.start()
            await finish(stage, Script())
        found = []
        for db in stage.databases.values():
            for row in await db.read(outbox.batch, 1000):
                body = json.loads(json.loads(row.message).get("oslo.message", row.message))
                found.append(body["payload"]["nova_object.data"])
    assert [told["share_id"] for told in found] == ["s1", "s1"]
    (share,) = found[0]["shares"]
    assert share["nova_object.name"] == "SharePayload"
    shown = {"share_mapping_uuid": "m-s1", "share_id": "s1", "status": "detaching", "tag": "s1"}
    assert share["nova_object.data"] == shown
    assert found[1]["shares"] == []


async def test_a_rolled_back_step_tells_nothing() -> None:
    async with SCENARIOS.get("server stop").stage() as stage:
        with listening(stage.databases, writer()):
            await stage.start()
            with pytest.raises(Crash):
                await Runner(stage.kit(Script(crash={("effect", "settle")}))).drain()
            assert await told(stage) == ["instance.power_off.start"]


@pytest.mark.parametrize("name", ["server build", "server stop", "server delete"])
async def test_what_it_costs(name: str) -> None:
    """Nothing when it is off; at most two statements for a notification when it is on."""

    async def statements(wanted: Writer | None) -> tuple[int, int]:
        async with SCENARIOS.get(name).stage() as stage:
            with listening(stage.databases, wanted) if wanted else _nobody():
                await stage.start()
                with counted() as seen:
                    await Runner(stage.kit(None)).drain()
                return len(seen), len(await told(stage))

    silent, none = await statements(None)
    loud, number = await statements(writer())
    assert none == 0
    again, _ = await statements(None)
    assert silent == again
    assert number >= 2
    assert loud - silent <= 2 * number


@contextmanager
def _nobody() -> Iterator[None]:
    yield


async def test_states_cost_one_more_each() -> None:
    async with SCENARIOS.get("server stop").stage() as stage:
        with listening(stage.databases, writer(notify_on_state_change="vm_and_task_state")):
            await stage.start()
            await finish(stage, Script())
            assert await told(stage) == [
                "instance.update",
                "instance.power_off.start",
                "instance.update",
                "instance.power_off.end",
            ]


def test_nobody_listens_afterwards(tmp_path: Any) -> None:
    db = Database(f"sqlite:///{tmp_path}/x.db")
    assert db.attachment(NOTES) is None
    db.attach(NOTES, "somebody")
    assert db.run_sync(_attached) == "somebody"
    db.attach(NOTES, None)
    assert db.run_sync(_attached) is None
    db.close()


def _attached(tx: Tx) -> object:
    return tx.get_execution_options().get(NOTES)
