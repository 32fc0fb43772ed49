from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kilonova.base.clock import VirtualClock
from kilonova.base.errors import Conflict, Unavailable
from kilonova.base.ids import RandomIds
from kilonova.compute import worker as workers
from kilonova.compute.journal import Journal
from kilonova.compute.operations import HANDLERS
from kilonova.compute.service import Agent
from kilonova.config.compute import Compute
from kilonova.config.default import Default
from kilonova.config.settings import Settings
from kilonova.domain import live, operations
from kilonova.domain.agent import (
    DriverAway,
    GuestAsk,
    GuestEvent,
    GuestList,
    Heartbeat,
    Welcome,
    topic,
)
from kilonova.domain.guest import GuestSpec, GuestStatus, HostReport, ImageRef, PowerState
from kilonova.domain.operations import (
    CONSOLE,
    CONSOLE_LOG,
    DESTROY,
    OPERATIONS,
    POWER_OFF,
    POWER_ON,
    REBOOT,
    RESUME,
    SPAWN,
    ConsoleAsk,
    ConsoleLog,
    Destroy,
    GuestArgs,
    Operation,
    OperationId,
    OperationReply,
    OperationRequest,
    PowerOff,
    Reboot,
    Spawn,
)
from kilonova.messaging.memory import MemoryBus
from kilonova.virt.fake import FakeDriver, FakeWorld
from tests.support.guests import SERVER, Files, Plugs, spec


class Conductor:
    """What agents tell."""

    def __init__(self) -> None:
        self.beats: list[Heartbeat] = []
        self.events: list[GuestEvent] = []
        self.welcome = Welcome(accepted=True)
        self.away: list[DriverAway] = []

    async def heartbeat(self, beat: Heartbeat) -> Welcome:
        self.beats.append(beat)
        return self.welcome

    async def driver_away(self, away: DriverAway) -> None:
        self.away.append(away)

    async def guest_event(self, event: GuestEvent) -> None:
        self.events.append(event)

    async def serve(self, bus: MemoryBus) -> None:
        methods = {
            "heartbeat": self.heartbeat,
            "guest_event": self.guest_event,
            "driver_away": self.driver_away,
        }
        await bus.serve("conductor", methods)


class Cloud:
    """A bus, a conductor, a fake world, and agents on it."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock = VirtualClock()
        self.bus = MemoryBus()
        self.conductor = Conductor()
        self.world = FakeWorld(clock=self.clock, file=tmp_path / "fake.db")
        self.journal = Journal(tmp_path / "journal.db", clock=self.clock)
        self.path = tmp_path
        self.agents: list[Agent] = []

    def agent(
        self,
        host: str = "h1",
        settings: Settings | None = None,
        kind: type[FakeDriver] = FakeDriver,
    ) -> Agent:
        made = Agent(
            host=host,
            node_uuid=f"node-{host}",
            make_driver=lambda given: kind(given, self.world),
            bus=self.bus,
            journal=self.journal,
            images=Files(),
            vifs=Plugs(),
            clock=self.clock,
            ids=RandomIds(),
            settings=settings or Settings(),
            state_dir=self.path,
        )
        self.agents.append(made)
        return made

    async def start(self, host: str = "h1") -> Agent:
        made = self.agent(host)
        await made.start()
        await asyncio.sleep(0)
        return made

    async def ask(
        self,
        operation: Operation[Any, Any],
        args: Any,
        *,
        epoch: int = 1,
        step: str = "",
        seconds: float = 60,
    ) -> OperationReply:
        server = args.guest.server_id if hasattr(args, "guest") else args.server_id
        request = OperationRequest(
            OperationId("saga", step or operation.name, epoch),
            operation.name,
            server,
            msgspec.msgpack.encode(args),
            seconds,
        )
        return await self.bus.call(topic("h1"), "operate", request, reply=OperationReply)

    async def do(self, operation: Operation[Any, Any], args: Any, **how: Any) -> Any:
        reply = await self.ask(operation, args, **how)
        assert reply.state == "done", reply
        return msgspec.msgpack.decode(reply.result, type=operation.result)


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    made = Cloud(tmp_path)
    await made.conductor.serve(made.bus)
    yield made
    for agent in made.agents:
        await agent.stop()
    await made.bus.close()
    made.journal.close()
    made.world.close()


def test_every_operation_has_a_handler() -> None:
    # Other tests of the same run may have made operations of their own.
    rows = (*vars(operations).values(), *vars(live).values())
    ours = {row.name for row in rows if isinstance(row, Operation)}
    assert ours == set(HANDLERS)
    assert ours <= set(OPERATIONS)


async def test_the_life_of_a_guest(cloud: Cloud) -> None:
    await cloud.start()
    guest = spec()
    status = await cloud.do(SPAWN, Spawn(guest, paused=True))
    assert status.power == PowerState.PAUSED
    assert (await cloud.do(RESUME, GuestArgs(guest))).power == PowerState.RUNNING
    assert (await cloud.do(POWER_OFF, PowerOff(guest))).power == PowerState.SHUTDOWN
    assert (await cloud.do(POWER_ON, GuestArgs(guest))).power == PowerState.RUNNING
    assert (await cloud.do(REBOOT, Reboot(guest))).power == PowerState.RUNNING
    cloud.world.says(SERVER, "login:\n")
    text = await cloud.do(CONSOLE_LOG, ConsoleLog(SERVER, 2))
    assert text.output == "login:\n"
    assert (await cloud.do(CONSOLE, ConsoleAsk(SERVER, "vnc"))).port == 5900
    listed = await cloud.bus.call(topic("h1"), "guests", reply=GuestList)
    assert [g.server_id for g in listed.guests] == [SERVER]
    one = await cloud.bus.call(topic("h1"), "status", GuestAsk(SERVER), reply=GuestStatus)
    assert one.power == PowerState.RUNNING
    assert (await cloud.do(DESTROY, Destroy(guest))).power == PowerState.NOSTATE
    listed = await cloud.bus.call(topic("h1"), "guests", reply=GuestList)
    assert listed.guests == ()


async def test_equal_work_is_done_once_and_joined(cloud: Cloud) -> None:
    await cloud.start()
    cloud.world.takes("spawn", 10)
    cloud.world.fails("spawn", times=2, error="only the first spawn may run", late=True)
    asks = [asyncio.create_task(cloud.ask(SPAWN, Spawn(spec()))) for _ in range(3)]
    await asyncio.sleep(0.01)
    await cloud.clock.advance(11)
    replies = [await ask for ask in asks]
    assert {r.message for r in replies} == {"only the first spawn may run"}
    assert await cloud.ask(SPAWN, Spawn(spec())) == replies[0]
    assert len(cloud.world._rules) == 2  # one failure is left: the work ran once


async def test_a_slow_operation_reads_running_until_it_is_done(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "ANSWER_SECONDS", 0.01)
    await cloud.start()
    cloud.world.takes("spawn", 30, times=1)
    assert (await cloud.ask(SPAWN, Spawn(spec()))).state == "running"
    assert (await cloud.ask(SPAWN, Spawn(spec()), epoch=2)).state == "running"
    stale = await cloud.ask(SPAWN, Spawn(spec()), epoch=1)
    assert (stale.state, stale.error) == ("failed", "Stale")
    await cloud.clock.advance(31)
    assert (await cloud.ask(SPAWN, Spawn(spec()), epoch=2)).state == "done"


async def test_a_fault_keeps_its_words_and_another_error_loses_them(cloud: Cloud) -> None:
    await cloud.start()
    cloud.world.fails("spawn", error=Conflict("The image is too big."))
    reply = await cloud.ask(SPAWN, Spawn(spec()))
    assert (reply.error, reply.message) == ("Conflict", "The image is too big.")
    cloud.world.fails("spawn", error=RuntimeError("/secret/path"))
    reply = await cloud.ask(SPAWN, Spawn(spec()), step="again")
    assert reply.error == "Internal"
    assert "/secret" not in reply.message


async def test_a_guest_has_as_many_disks_as_the_host_allows(cloud: Cloud) -> None:
    settings = Settings(compute=Compute(max_disk_devices_to_attach=0))
    await cloud.agent(settings=settings).start()
    reply = await cloud.ask(SPAWN, Spawn(spec()))
    assert (reply.error, "maximum allowed number" in reply.message) == ("Forbidden", True)


async def test_work_has_a_time_limit(cloud: Cloud) -> None:
    await cloud.start()
    cloud.world.takes("spawn", 1000, times=1)
    reply = await cloud.ask(SPAWN, Spawn(spec()), seconds=0.02)
    assert reply.error == "Timeout"


async def test_destroy_ends_what_is_under_way(cloud: Cloud) -> None:
    await cloud.start()
    cloud.world.takes("spawn", 1000)
    spawning = asyncio.create_task(cloud.ask(SPAWN, Spawn(spec())))
    await asyncio.sleep(0.01)
    await cloud.do(DESTROY, Destroy(spec()))
    reply = await spawning
    assert (reply.state, reply.error) == ("failed", "Conflict")
    assert cloud.world.guests("h1") == {}


async def test_operations_on_one_guest_wait_for_each_other(cloud: Cloud) -> None:
    await cloud.start()
    await cloud.do(SPAWN, Spawn(spec()))
    cloud.world.takes("power_off", 5)
    off = asyncio.create_task(cloud.do(POWER_OFF, PowerOff(spec())))
    await asyncio.sleep(0.01)
    on = asyncio.create_task(cloud.do(POWER_ON, GuestArgs(spec())))
    await asyncio.sleep(0.01)
    assert not on.done()
    await cloud.clock.advance(6)
    assert (await off).power == PowerState.SHUTDOWN
    assert (await on).power == PowerState.RUNNING


async def test_work_that_waited_while_a_newer_epoch_spoke_is_not_done(cloud: Cloud) -> None:
    await cloud.start()
    await cloud.do(SPAWN, Spawn(spec()))
    cloud.world.takes("power_off", 5, times=1)
    off = asyncio.create_task(cloud.ask(POWER_OFF, PowerOff(spec())))
    await asyncio.sleep(0.01)
    on = asyncio.create_task(cloud.ask(POWER_ON, GuestArgs(spec())))
    await asyncio.sleep(0.01)
    other = asyncio.create_task(cloud.ask(REBOOT, Reboot(spec()), epoch=2))
    await asyncio.sleep(0.01)
    await cloud.clock.advance(6)
    assert (await off).state == "done"
    assert (await on).error == "Stale"
    assert (await other).state == "done"


async def test_a_deaf_guest_is_rebooted_hard_and_its_image_decides_on_patience(
    cloud: Cloud,
) -> None:
    await cloud.start()
    guest = spec(properties={"os_shutdown_timeout": "7"})
    await cloud.do(SPAWN, Spawn(guest))
    cloud.world.deaf(SERVER)
    reboot = asyncio.create_task(cloud.do(REBOOT, Reboot(guest)))
    await asyncio.sleep(0.01)
    await cloud.clock.advance(119)
    assert not reboot.done()
    await cloud.clock.advance(2)
    assert (await reboot).power == PowerState.RUNNING
    off = asyncio.create_task(cloud.do(POWER_OFF, PowerOff(guest)))
    await asyncio.sleep(0.01)
    await cloud.clock.advance(8)
    assert (await off).power == PowerState.SHUTDOWN


async def test_heartbeats_and_reports(cloud: Cloud) -> None:
    await cloud.start()
    first = cloud.conductor.beats[0]
    assert (first.host, first.binary, first.node_uuid) == ("h1", "nova-compute", "node-h1")
    assert first.report is not None
    assert first.report.reserved["MEMORY_MB"] == 512
    await cloud.clock.advance(100)
    assert 10 <= len(cloud.conductor.beats) <= 12
    assert all(beat.report is None for beat in cloud.conductor.beats[1:])
    await cloud.do(SPAWN, Spawn(spec()))
    await cloud.clock.advance(70)
    reports = [beat.report for beat in cloud.conductor.beats[1:] if beat.report]
    assert [r.used_vcpus for r in reports] == [1]


async def test_a_hypervisor_that_is_away_is_told_once(cloud: Cloud) -> None:
    class Gone(FakeDriver):
        away = False

        async def report(self) -> HostReport:
            if self.away:
                raise Unavailable("It does not answer.")
            return await super().report()

    agent = cloud.agent(kind=Gone)
    await agent.start()
    await asyncio.sleep(0)
    Gone.away = True
    for _ in range(30):
        await cloud.clock.advance(10)
    assert [(each.host, each.reason) for each in cloud.conductor.away] == [
        ("h1", "It does not answer.")
    ]
    Gone.away = False
    for _ in range(30):
        await cloud.clock.advance(10)
    Gone.away = True
    for _ in range(30):
        await cloud.clock.advance(10)
    assert len(cloud.conductor.away) == 2


async def test_builds_that_fail_are_told_until_one_works(cloud: Cloud) -> None:
    await cloud.start()
    cloud.world.fails("spawn", error=Conflict("No."), times=2)
    for step in ("one", "two"):
        assert (await cloud.ask(SPAWN, Spawn(spec()), step=step)).state == "failed"
    await cloud.clock.advance(70)
    await cloud.do(SPAWN, Spawn(spec()), step="three")
    await cloud.clock.advance(70)
    reports = [beat.report for beat in cloud.conductor.beats[1:] if beat.report]
    assert [r.failed_builds for r in reports] == [2, 0]


async def test_builds_that_fail_are_kept_quiet_where_that_is_wanted(cloud: Cloud) -> None:
    settings = Settings(
        default=Default(compute_monitors=("cpu.virt_driver",)),
        compute=Compute(consecutive_build_service_disable_threshold=0),
    )
    await cloud.agent(settings=settings).start()
    cloud.world.fails("spawn", error=Conflict("No."), times=1)
    assert (await cloud.ask(SPAWN, Spawn(spec()))).state == "failed"
    await cloud.clock.advance(130)
    reports = [beat.report for beat in cloud.conductor.beats if beat.report]
    assert len(reports) > 1
    assert {report.failed_builds for report in reports} == {0}
    assert all("cpu.percent" in report.metrics for report in reports)


async def test_a_refused_agent_does_not_start(cloud: Cloud) -> None:
    cloud.conductor.welcome = Welcome(accepted=False, reason="h1 is another node")
    with pytest.raises(Conflict, match="another node"):
        await cloud.start()
    cloud.agents.clear()


async def test_an_agent_works_before_there_is_a_conductor(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    await cloud.start()
    await cloud.do(SPAWN, Spawn(spec()))
    await cloud.conductor.serve(cloud.bus)
    await cloud.clock.advance(21)
    assert cloud.conductor.beats[0].report is not None
    await cloud.agents[0].stop()
    await asyncio.sleep(0)
    assert cloud.conductor.beats[-1].stopping
    await cloud.bus.close()
    cloud.journal.close()
    cloud.world.close()


async def test_events_reach_the_conductor(cloud: Cloud) -> None:
    await cloud.start()
    await cloud.do(SPAWN, Spawn(spec()))
    await cloud.world.shuts_down(SERVER)
    await cloud.world.vanishes(SERVER)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    powers = [event.status.power for event in cloud.conductor.events]
    assert powers == [PowerState.SHUTDOWN, PowerState.NOSTATE]


async def test_a_new_agent_answers_what_the_old_one_did(cloud: Cloud) -> None:
    old = await cloud.start()
    done = await cloud.ask(SPAWN, Spawn(spec()))
    cloud.world.takes("power_off", 1000, times=1)
    settings = Settings(default=Default(graceful_shutdown_timeout=0))
    old._settings = settings
    off = asyncio.create_task(cloud.ask(POWER_OFF, PowerOff(spec())))
    await asyncio.sleep(0.01)
    await old.stop()
    assert (await off).state == "running"
    await cloud.start()
    cloud.world.fails("spawn")
    assert await cloud.ask(SPAWN, Spawn(spec())) == done
    assert (await cloud.ask(POWER_OFF, PowerOff(spec()))).state == "done"


async def test_a_thousand_idle_hosts_cost_little(cloud: Cloud) -> None:
    agents = [cloud.agent(f"host{n}") for n in range(1000)]
    began = time.process_time()
    for agent in agents:
        await agent.start()
    await asyncio.sleep(0)
    await cloud.clock.advance(10)
    started = time.process_time()
    await cloud.clock.advance(10)
    spent = time.process_time() - started
    assert len(cloud.conductor.beats) >= 2000
    assert started - began < 5
    assert spent < 1.0  # a tenth of one core


async def test_unknown_and_malformed_requests_are_failures(cloud: Cloud) -> None:
    await cloud.start()
    request = OperationRequest(OperationId("s", "x", 1), "fly", SERVER, b"", 1)
    reply = await cloud.bus.call(topic("h1"), "operate", request, reply=OperationReply)
    assert reply.error == "NotSupported"
    request = OperationRequest(OperationId("s", "x", 1), "spawn", SERVER, b"\x93", 1)
    reply = await cloud.bus.call(topic("h1"), "operate", request, reply=OperationReply)
    assert reply.error == "BadRequest"
    cloud.world.fails("spawn", error=Unavailable("no"), times=None)
    assert (await cloud.ask(SPAWN, Spawn(spec()))).error == "Unavailable"


class AfterBoot(FakeDriver):
    """A driver whose host was restarted, and which caches images."""

    async def interrupted(self) -> list[GuestSpec]:
        return [spec()]

    async def cache_image(self, image: ImageRef) -> bool:
        raise AssertionError("nobody asks")

    async def prune_images(self, *, unused_seconds: float) -> list[str]:
        assert unused_seconds == 86400
        self._world.says(SERVER, "pruned\n")
        return ["image"]


@pytest.mark.parametrize("wanted", [True, False])
async def test_guests_run_again_after_the_host_was_restarted_if_wanted(
    cloud: Cloud, wanted: bool
) -> None:
    power = PowerState.SHUTDOWN
    cloud.world.make("h1", spec(), power)
    settings = Settings(default=Default(resume_guests_state_on_host_boot=wanted))
    await cloud.agent(settings=settings, kind=AfterBoot).start()
    await asyncio.sleep(0.01)
    one = await cloud.bus.call(topic("h1"), "status", GuestAsk(SERVER), reply=GuestStatus)
    assert one.power == (PowerState.RUNNING if wanted else power)
    told = [event.status.power for event in cloud.conductor.events]
    assert told == ([PowerState.RUNNING] if wanted else [])
    await cloud.clock.advance(2401)
    assert cloud.world.guests("h1")[SERVER].console.count("pruned") == 1
