"""Starting, stopping and restarting a server."""

from __future__ import annotations

import contextlib

import msgspec

from kilonova.base.errors import Conflict, Timeout
from kilonova.domain.guest import GuestSpec
from kilonova.domain.operations import POWER_OFF, POWER_ON, REBOOT, GuestArgs, PowerOff, Reboot
from kilonova.domain.states import Task, VmState
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import saga
from kilonova.workflows.sagas import shares
from kilonova.workflows.steps.networking import BoundPort, plugged
from kilonova.workflows.steps.records import give_up, locate, settle
from kilonova.workflows.steps.volumes import drop_dangling

SHUTDOWN_PROPERTY = "os_shutdown_timeout"


@saga("server.start", action="start", notify="instance.power_on", failed=give_up)
async def start(s: Saga, server_id: str) -> None:
    """Power on."""
    host, guest = await where(s, server_id)
    await shares.before_start(s, server_id, host, guest)
    status = await s.on(host, POWER_ON, GuestArgs(guest), task=Task.POWERING_ON)
    await shares.started(s, server_id, guest)
    await s.do(settle, server_id, VmState.ACTIVE, status.power)


@saga("server.stop", action="stop", notify="instance.power_off", failed=give_up)
async def stop(s: Saga, server_id: str) -> None:
    """Shut down politely, then cut the power."""
    host, guest = await where(s, server_id)
    status = await s.on(
        host, POWER_OFF, PowerOff(guest, patience(s, guest)), task=Task.POWERING_OFF
    )
    await shares.stopped(s, server_id, guest)
    await s.do(settle, server_id, VmState.STOPPED, status.power)


@saga("server.reboot", action="reboot", notify="instance.reboot", failed=give_up)
async def reboot(s: Saga, server_id: str, hard: bool) -> None:
    """Restart: soft asks the guest first, hard makes it anew, with the volumes it really has."""
    host, guest = await where(s, server_id)
    if hard and any(disk.source == "volume" for disk in guest.disks):
        left = await s.do(drop_dangling, server_id)
        disks = tuple(disk for disk in guest.disks if disk.source != "volume" or disk.id in left)
        guest = msgspec.structs.replace(guest, disks=disks)
    await shares.before_start(s, server_id, host, guest)
    task = Task.REBOOT_STARTED_HARD if hard else Task.REBOOT_STARTED
    status = await s.on(host, REBOOT, Reboot(guest, hard), task=task)
    await shares.started(s, server_id, guest)
    await s.do(settle, server_id, VmState.ACTIVE, status.power)


async def where(s: Saga, server_id: str) -> tuple[str, GuestSpec]:
    """The server's host and its guest's description; Conflict when it is on no host."""
    place = await s.do(locate, server_id)
    if place.host is None or place.guest is None:
        raise Conflict(f"Instance {server_id} is on no host.")
    return place.host, place.guest


def patience(s: Saga, guest: GuestSpec) -> int:
    """Seconds a guest may take to shut down: its image's word, else the operator's."""
    given = guest.properties.get(SHUTDOWN_PROPERTY, "")
    seconds: int = int(given) if given.isdigit() else s.settings.default.shutdown_timeout
    return seconds


async def until_open(s: Saga, server_id: str, ports: list[BoundPort]) -> None:
    """Wait until the network has opened the ports (``vif_plugging_timeout``, ``_is_fatal``)."""
    default = s.settings.default
    opening = plugged(server_id, ports)
    if opening is not None and default.vif_plugging_timeout:
        patient = () if default.vif_plugging_is_fatal else (Timeout,)
        with contextlib.suppress(*patient):
            await s.wait(opening, within=default.vif_plugging_timeout)
