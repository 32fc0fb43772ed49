"""The fake hypervisor's part in moving running guests."""

from __future__ import annotations

import asyncio

import msgspec

from kilonova.base.errors import Conflict
from kilonova.domain.guest import GuestSpec, GuestStatus, PowerState
from kilonova.domain.live import LiveDisk, LiveProgress, LiveShape, LiveTarget
from kilonova.virt.driver import Host
from kilonova.virt.fake.world import FakeGuest, FakeWorld, volumes_of
from kilonova.virt.live import must_copy

MIB, GIB = 1 << 20, 1 << 30


class _Move(msgspec.Struct):
    """A guest under way: since when (seconds), for how long, and whether it is to hurry."""

    guest: FakeGuest
    disks: int
    began: float
    seconds: float
    hurry: asyncio.Event


class FakeMoves:
    """Sends guests from one fake host of the world to another."""

    _host: Host
    _world: FakeWorld

    def __init__(self) -> None:
        self._moves: dict[str, _Move] = {}

    async def live_check(self, guest: GuestSpec) -> LiveShape:
        """The guest's disk is its host's own unless the root disk is a volume."""
        await self._world.before("live_check", self._host.name, guest.server_id)
        there = self._need(guest.server_id)
        if there.power not in (PowerState.RUNNING, PowerState.PAUSED):
            raise Conflict(f"The guest {there.name} is off; it cannot be moved while it runs.")
        local = [disk for disk in guest.disks if disk.source != "volume"]
        size = there.disk_gb * GIB
        return LiveShape(
            store=self._world.store_of(self._host.name),
            disks={disk.device: LiveDisk(size, size) for disk in local[:1]},
        )

    async def live_suits(
        self, guest: GuestSpec, shape: LiveShape, *, block: bool | None, over_commit: bool
    ) -> None:
        """Whether storage fits what is asked, and there is room."""
        await self._world.before("live_suits", self._host.name, guest.server_id)
        copied = must_copy(shape, self._world.store_of(self._host.name), block=block)
        free = self._world.capacity_of(self._host.name).disk_gb * GIB
        if copied and not over_commit and sum(disk.size for disk in shape.disks.values()) > free:
            raise Conflict(
                f"Host {self._host.name} has no room on its disks for the guest {guest.name}."
            )

    async def live_prepare(
        self, guest: GuestSpec, shape: LiveShape, *, block: bool | None
    ) -> LiveTarget:
        """A guest that stands still and waits."""
        late = await self._world.before("live_prepare", self._host.name, guest.server_id)
        copied = must_copy(shape, self._world.store_of(self._host.name), block=block)
        guests = self._world.guests(self._host.name)
        if guest.server_id not in guests:
            made = self._world.make(self._host.name, guest, PowerState.PAUSED)
            made.arriving = True
            made.console = ""
            self._world.keep(self._host.name, made)
        if late is not None:
            raise late
        return LiveTarget(
            address=self._host.name, disks=tuple(shape.disks) if copied else (), name=guest.name
        )

    async def live_move(self, guest: GuestSpec, target: LiveTarget) -> GuestStatus:
        """Takes what the script says; the other host's guest has the console then."""
        there = self._need(guest.server_id)
        seconds = self._world.lasts("live_move", self._host.name, guest.server_id)
        disks = there.disk_gb if target.disks else 0
        move = _Move(there, disks, self._host.clock.monotonic(), seconds, asyncio.Event())
        self._moves[guest.server_id] = move
        try:
            late = await self._patience(move, guest.server_id)
            other = self._world.guests(target.address).get(guest.server_id)
            if other is None or not other.arriving:
                raise Conflict(f"No guest waits on {target.address} for {there.name}.")
            other.console, other.deaf = there.console, there.deaf
            self._world.keep(target.address, other)
            there.power = PowerState.PAUSED
            self._world.keep(self._host.name, there)
        finally:
            self._moves.pop(guest.server_id, None)
        if late is not None:
            raise late
        return there.status()

    async def live_arrive(self, guest: GuestSpec, *, running: bool) -> GuestStatus:
        """It goes on."""
        late = await self._world.before("live_arrive", self._host.name, guest.server_id)
        there = self._need(guest.server_id)
        there.arriving = False
        there.volumes = volumes_of(guest)
        there.power = PowerState.RUNNING if running else PowerState.PAUSED
        self._world.keep(self._host.name, there)
        if late is not None:
            raise late
        return there.status()

    async def live_stay(self, guest: GuestSpec, *, running: bool) -> GuestStatus:
        """It goes on where it was."""
        late = await self._world.before("live_stay", self._host.name, guest.server_id)
        there = self._need(guest.server_id)
        if there.power in (PowerState.RUNNING, PowerState.PAUSED):
            there.power = PowerState.RUNNING if running else PowerState.PAUSED
            self._world.keep(self._host.name, there)
        if late is not None:
            raise late
        return there.status()

    async def live_force(self, server_id: str) -> None:
        """The rest of it takes no time."""
        self._under_way(server_id).hurry.set()

    async def live_progress(self, server_id: str) -> LiveProgress:
        """As much of it as of its time is over."""
        move = self._under_way(server_id)
        spent = self._host.clock.monotonic() - move.began
        part = min(1.0, spent / move.seconds) if move.seconds else 1.0
        memory, disk = move.guest.memory_mb * MIB, move.disks * GIB
        return LiveProgress(
            memory,
            int(memory * part),
            memory - int(memory * part),
            disk,
            int(disk * part),
            disk - int(disk * part),
        )

    async def _patience(self, move: _Move, server_id: str) -> Exception | None:
        """Wait as the script says, or until it is to hurry."""
        waiting = asyncio.create_task(self._world.before("live_move", self._host.name, server_id))
        hurry = asyncio.create_task(move.hurry.wait())
        try:
            await asyncio.wait((waiting, hurry), return_when=asyncio.FIRST_COMPLETED)
            return await waiting if waiting.done() else None
        finally:
            for task in (waiting, hurry):
                task.cancel()
            await asyncio.gather(waiting, hurry, return_exceptions=True)

    def _under_way(self, server_id: str) -> _Move:
        if server_id not in self._moves:
            raise Conflict(f"No guest of server {server_id} is being moved from here.")
        return self._moves[server_id]

    def _need(self, server_id: str) -> FakeGuest:
        raise AssertionError
