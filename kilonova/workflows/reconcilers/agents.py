"""The conductor's ear for agents: signs of life, capacities, guests that changed by themselves."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Mapping

import os_traits

from kilonova.base.clock import Clock
from kilonova.base.errors import Conflict, Fault
from kilonova.base.ids import Ids
from kilonova.db.cells import Cell
from kilonova.db.database import Database, Tx
from kilonova.domain.agent import DriverAway, GuestEvent, Heartbeat, Welcome
from kilonova.domain.guest import GuestStatus, HostReport, PowerState
from kilonova.domain.states import VmState
from kilonova.interfaces.placement import Inventory, PlacementService
from kilonova.notifications.facts import Cause, LibvirtError, Metric, MetricsFacts
from kilonova.store import mappings, migrations, nodes, servers, services, shares
from kilonova.store.noting import NOTES, note
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.reconcilers import devices

log = logging.getLogger(__name__)

DISABLED_TRAIT = os_traits.COMPUTE_STATUS_DISABLED
OURS = ("HW_", "COMPUTE_", os_traits.OWNER_NOVA)
OFF = (PowerState.SHUTDOWN, PowerState.CRASHED)


class Agents:
    """What the conductor of one cell knows of its agents. Serve ``methods()`` on its topic.

    ``returned`` is filled with hosts that were away, or are new to this conductor.
    """

    def __init__(
        self,
        *,
        db: Database,
        cell: Cell,
        placement: PlacementService,
        clock: Clock,
        ids: Ids,
        down_after: float,
        enable_new: bool = True,
    ) -> None:
        self._db = db
        self._cell = cell
        self._placement = placement
        self._clock = clock
        self._ids = ids
        self._down_after = down_after
        self._enable_new = enable_new
        self._seen: dict[str, float] = {}
        self.returned: asyncio.Queue[str] = asyncio.Queue()

    def methods(self) -> Mapping[str, Callable[..., Awaitable[object]]]:
        """Bus methods: ``heartbeat``, ``guest_event`` and ``driver_away``."""
        return {
            "heartbeat": self.heartbeat,
            "guest_event": self.guest_event,
            "driver_away": self.driver_away,
        }

    async def alive(self, host: str) -> bool:
        """Whether the agent of a host was heard of lately."""
        if self._clock.monotonic() - self._seen.get(host, float("-inf")) < self._down_after / 2:
            return True
        known = await self._cell.db.read(services.computes, [host])
        row = known.get(host)
        return row is not None and row.is_up(self._clock.now(), self._down_after)

    async def heartbeat(self, beat: Heartbeat) -> Welcome:
        """An agent lives; its report, when there is one, reaches the records and Placement."""
        if beat.stopping:
            self._seen.pop(beat.host, None)
            before = self._clock.now() - dt.timedelta(seconds=self._down_after)
            await self._cell.db.run(services.stop, beat.host, beat.binary, before=before)
            return Welcome(accepted=True)
        refused = await self._cell.db.run(self._note, beat)
        if refused:
            return Welcome(accepted=False, reason=refused)
        await self._map(beat)
        disabled, reason = await self._disabled(beat.host)
        if beat.report is not None:
            await self._report(beat.node_uuid, beat.report, disabled=disabled)
        now = self._clock.monotonic()
        if now - self._seen.get(beat.host, float("-inf")) > self._down_after:
            self.returned.put_nowait(beat.host)
        self._seen[beat.host] = now
        gone: tuple[str, ...] = ()
        if beat.report is not None:
            rows = await self._cell.db.read(migrations.evacuated, beat.host)
            gone = tuple(row.server_id for row in rows)
        return Welcome(accepted=True, disabled=disabled, reason=reason, evacuated=gone)

    async def guest_event(self, event: GuestEvent) -> None:
        """A guest changed its power state by itself."""
        await self._cell.db.run(self.follow, event.host, event.status)

    async def driver_away(self, away: DriverAway) -> None:
        """The hypervisor of a host does not answer."""
        log.warning("the hypervisor of host %s is away: %s", away.host, away.reason)
        if away.driver.startswith("libvirt") and self._cell.db.attachment(NOTES) is not None:
            cause = Cause("HypervisorUnavailable", away.reason, "connect", away.host)
            told = LibvirtError(away.ip, cause, away.host)
            await self._cell.db.run(note, "libvirt.connect.error", told)

    def follow(self, tx: Tx, host: str, status: GuestStatus) -> None:
        """Bring a row to what its guest is, unless a saga has the server in hand."""
        server = servers.get(tx, status.server_id, lock=True)
        if server is None or server.host != host or server.task_state is not None:
            return
        if engine.living(tx, server.id) is not None:
            return
        now = self._clock.now()
        if status.power in OFF and server.vm_state == VmState.ACTIVE:
            log.info("guest of %s is off by itself (%s)", server.id, status.detail or "shut down")
            servers.update(
                tx,
                server.id,
                now=now,
                vm_state=VmState.STOPPED,
                power_state=int(PowerState.SHUTDOWN),
            )
            shares.follow(tx, server.id, running=False, now=now)
        elif status.power == PowerState.RUNNING and server.vm_state == VmState.STOPPED:
            log.info("guest of %s was started from outside", server.id)
            servers.update(
                tx, server.id, now=now, vm_state=VmState.ACTIVE, power_state=int(status.power)
            )
        else:
            servers.set_power(tx, server.id, status.power, now=now)

    def _note(self, tx: Tx, beat: Heartbeat) -> str:
        """Write the sign of life; a sentence when the host is known as another node."""
        if beat.report is not None:
            for node in nodes.page(tx, host=beat.host):
                if node.node == beat.report.node and node.uuid != beat.node_uuid:
                    return (
                        f"Host {beat.host} was node {node.uuid} before and says it is "
                        f"{beat.node_uuid} now: restore its compute_id file."
                    )
        first = services.find(tx, beat.host, beat.binary) is None
        now = self._clock.now()
        row = services.heartbeat(
            tx, beat.host, beat.binary, uuid=self._ids.uuid(), now=now, version=beat.version
        )
        if first and not self._enable_new:
            services.update(
                tx, row.id, now=now, disabled=True, disabled_reason="New compute service disabled."
            )
        if beat.report is not None:
            nodes.save(tx, uuid=beat.node_uuid, host=beat.host, report=beat.report, now=now)
            if beat.report.metrics:
                note(tx, "metrics.update", _measured(beat.host, beat.report, now))
        return ""

    async def _map(self, beat: Heartbeat) -> None:
        if beat.host not in self._seen:
            await self._db.run(mappings.map_host, beat.host, self._cell.id)

    async def _disabled(self, host: str) -> tuple[bool, str]:
        row = (await self._cell.db.read(services.computes, [host])).get(host)
        return (row.disabled, row.disabled_reason or "") if row else (False, "")

    async def _report(self, uuid: str, report: HostReport, *, disabled: bool) -> None:
        """Provider, inventory and traits of a host as it reports them."""
        try:
            await self._placement.ensure_provider(uuid, report.node)
            present = await self._placement.inventory(uuid)
            await self._placement.set_inventory(uuid, inventory(report, present))
            traits = {*report.traits, os_traits.OWNER_NOVA}
            if disabled:
                traits.add(DISABLED_TRAIT)
            owned = {t for t in os_traits.get_traits() if t.startswith(OURS)}
            await self._placement.set_traits(uuid, traits, owned=owned)
            if report.devices is not None:
                await devices.tell(self._placement, uuid, report.node, report.devices)
        except Conflict as fault:
            log.warning("inventory of %s was not taken: %s", report.node, fault.message)
        except Fault as fault:
            log.warning("Placement does not answer about %s: %s", report.node, fault.message)
            raise


def _measured(host: str, report: HostReport, now: dt.datetime) -> MetricsFacts:
    found = tuple(Metric(name, value, now) for name, value in sorted(report.metrics.items()))
    return MetricsFacts(host, report.host_ip, report.node, found)


def inventory(report: HostReport, present: Mapping[str, Inventory]) -> dict[str, Inventory]:
    """What a host offers (memory MiB, disk GiB).

    An unset ratio keeps what Placement has, so that an operator may change it there; a new
    provider gets the initial ratio. Source: Nova admin guide, "Allocation ratios".
    """
    made = {}
    for name, total in (
        ("VCPU", report.vcpus),
        ("PCPU", report.pcpus),
        ("MEMORY_MB", report.memory_mb),
        ("DISK_GB", report.disk_gb),
    ):
        if total <= 0:
            continue
        ratio = report.ratios.get(name)
        if ratio is None:
            known = present.get(name)
            ratio = known.allocation_ratio if known else report.initial_ratios.get(name, 1.0)
        made[name] = Inventory(
            total=total,
            reserved=min(report.reserved.get(name, 0), total),
            max_unit=total,
            allocation_ratio=ratio,
        )
    return made
