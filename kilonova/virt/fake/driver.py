"""The fake hypervisor of one host: does what a driver must, to guests that are only rows."""

from __future__ import annotations

import string
from collections.abc import AsyncIterator

from kilonova.base.errors import Conflict, NotFound, NotSupported, Unavailable
from kilonova.domain.diagnostics import CpuUse, Diagnostics, DiskUse, NicUse
from kilonova.domain.guest import (
    ConsoleTarget,
    Disk,
    GuestSpec,
    GuestStatus,
    HostReport,
    Nic,
    PowerState,
)
from kilonova.domain.moves import Offer
from kilonova.domain.operations import Snapped
from kilonova.domain.rescue import ROLE
from kilonova.virt.devices import properties
from kilonova.virt.driver import Host
from kilonova.virt.fake.live import FakeMoves
from kilonova.virt.fake.world import (
    FakeGuest,
    FakeWorld,
    boot_messages,
    disk_content,
    shares_of,
    volumes_of,
)

RESCUES_VOLUMES = "COMPUTE_RESCUE_BFV"
CONSOLE_PATH = "00000000-0000-4000-8000-00000000fa4e"
CONSOLE_PORTS = {"vnc": 5900, "spice": 5901, "serial": 10000}


class FakeDriver(FakeMoves):
    """A virt driver; ``world`` holds the guests and the script."""

    name = "fake"

    def __init__(self, host: Host, world: FakeWorld) -> None:
        super().__init__()
        self._host = host
        self._world = world

    async def start(self) -> list[GuestStatus]:
        self._world.listen(self._host.name, self._host.on_event)
        return await self.guests()

    async def stop(self) -> None:
        self._world.listen(self._host.name, None)

    async def report(self) -> HostReport:
        await self._world.before("report", self._host.name, None)
        capacity = self._world.capacity_of(self._host.name)
        guests = self._world.guests(self._host.name).values()
        used_disk = sum(g.disk_gb for g in guests)
        return HostReport(
            node=self._host.name,
            hypervisor_type=capacity.hypervisor_type,
            hypervisor_version=capacity.hypervisor_version,
            vcpus=capacity.vcpus,
            memory_mb=capacity.memory_mb,
            disk_gb=capacity.disk_gb,
            used_vcpus=sum(g.vcpus for g in guests),
            used_memory_mb=sum(g.memory_mb for g in guests),
            used_disk_gb=used_disk,
            free_disk_gb=max(0, capacity.disk_gb - used_disk),
            cpu_info={
                "arch": "x86_64",
                "model": "Nehalem",
                "vendor": "Intel",
                "features": ["pge", "clflush"],
                "topology": {"sockets": 4, "cores": 1, "threads": 1},
            },
            supported=(("x86_64", "fake", "hvm"),),
            traits=(RESCUES_VOLUMES, *capacity.traits),
            pcpus=capacity.pcpus,
            shape=capacity.shape,
        )

    async def guests(self) -> list[GuestStatus]:
        here = self._world.guests(self._host.name)
        aside = self._world.aside(self._host.name)
        left = [guest for server_id, guest in aside.items() if server_id not in here]
        return [guest.status() for guest in (*here.values(), *left)]

    async def status(self, server_id: str) -> GuestStatus:
        guest = self._world.guests(self._host.name).get(server_id)
        return guest.status() if guest else GuestStatus(server_id, "", PowerState.NOSTATE)

    async def spawn(self, guest: GuestSpec, *, paused: bool) -> GuestStatus:
        late = await self._before("spawn", guest.server_id)
        there = self._world.guests(self._host.name).get(guest.server_id)
        if there is None:
            power = PowerState.PAUSED if paused else PowerState.RUNNING
            there = self._world.make(self._host.name, guest, power)
        elif not paused:
            self._turn(there, PowerState.RUNNING)
        return _end(there, late)

    async def resume(self, guest: GuestSpec) -> GuestStatus:
        late = await self._before("resume", guest.server_id)
        there = self._need(guest.server_id)
        if there.arriving:
            raise Conflict(f"The guest {there.name} waits for its memory.")
        if there.power not in (PowerState.PAUSED, PowerState.RUNNING):
            raise Conflict(f"The guest {there.name} is off; start it first.")
        self._turn(there, PowerState.RUNNING)
        return _end(there, late)

    async def destroy(self, guest: GuestSpec, *, keep_disks: bool) -> None:
        late = await self._before("destroy", guest.server_id)
        if keep_disks:
            there = self._world.guests(self._host.name).get(guest.server_id)
            if there is not None:
                self._turn(there, PowerState.SHUTDOWN)
        else:
            self._world.drop(self._host.name, guest.server_id)
        if late is not None:
            raise late

    async def power_on(self, guest: GuestSpec) -> GuestStatus:
        late = await self._before("power_on", guest.server_id)
        self._recall(guest.server_id)
        there = self._need(guest.server_id)
        self._start(there, guest)
        self._turn(there, PowerState.RUNNING)
        return _end(there, late)

    async def power_off(self, guest: GuestSpec, *, seconds: int) -> GuestStatus:
        late = await self._before("power_off", guest.server_id)
        there = self._need(guest.server_id)
        if there.deaf and there.power == PowerState.RUNNING and seconds:
            await self._host.clock.sleep(seconds)
        there.shares = {}
        self._turn(there, PowerState.SHUTDOWN, always=True)
        return _end(there, late)

    async def reboot(self, guest: GuestSpec, *, hard: bool) -> GuestStatus:
        late = await self._before("reboot", guest.server_id)
        self._recall(guest.server_id)
        there = self._need(guest.server_id)
        if not hard:
            if there.power != PowerState.RUNNING:
                raise Conflict(f"The guest {there.name} does not run; reboot it hard.")
            if there.deaf:
                await self._host.clock.sleep(self._host.settings.libvirt.wait_soft_reboot_seconds)
                raise Conflict(f"The guest {there.name} did not react; reboot it hard.")
        self._start(there, guest)
        there.console += f"{there.name}: reboot\n"
        there.console += boot_messages(there.name, there.vcpus, there.memory_mb)
        self._turn(there, PowerState.RUNNING, always=True)
        return _end(there, late)

    async def rebuild(self, guest: GuestSpec, *, paused: bool) -> GuestStatus:
        """The guest once more, as it is described now."""
        late = await self._before("rebuild", guest.server_id)
        power = PowerState.PAUSED if paused else PowerState.RUNNING
        return _end(self._world.make(self._host.name, guest, power), late)

    async def rescue(self, guest: GuestSpec) -> GuestStatus:
        """The guest starts from its rescue disk."""
        late = await self._before("rescue", guest.server_id)
        there = self._need(guest.server_id)
        self._start(there, guest)
        self._turn(there, PowerState.SHUTDOWN)
        self._turn(there, PowerState.RUNNING)
        return _end(there, late)

    async def unrescue(self, guest: GuestSpec) -> GuestStatus:
        """The guest starts from its own disk."""
        late = await self._before("unrescue", guest.server_id)
        there = self._need(guest.server_id)
        self._start(there, guest)
        self._turn(there, PowerState.SHUTDOWN)
        self._turn(there, PowerState.RUNNING)
        return _end(there, late)

    async def set_password(self, guest: GuestSpec, user: str, password: str) -> GuestStatus:
        """It is counted, and forgotten."""
        late = await self._before("set_password", guest.server_id)
        there = self._need(guest.server_id)
        if there.power != PowerState.RUNNING:
            raise Conflict(f"The guest {there.name} is off; start it first.")
        if not there.agent:
            raise NotSupported(
                "set_admin_password is not implemented by this driver or guest instance."
            )
        there.passwords += 1
        there.console += f"{there.name}: {user} has a new password\n"
        self._world.keep(self._host.name, there)
        return _end(there, late)

    async def attach_disk(self, guest: GuestSpec, disk: Disk) -> GuestStatus:
        late = await self._before("attach_disk", guest.server_id)
        there = self._need(guest.server_id)
        self._plug(there, {**there.volumes, disk.volume_id or disk.id: disk.size_mb})
        return _end(there, late)

    async def detach_disk(self, guest: GuestSpec, disk: Disk) -> GuestStatus:
        late = await self._before("detach_disk", guest.server_id)
        there = self._need(guest.server_id)
        if there.deaf and there.power == PowerState.RUNNING:
            raise Conflict(f"The guest {there.name} does not let go of {disk.device}.")
        gone = disk.volume_id or disk.id
        self._plug(there, {key: size for key, size in there.volumes.items() if key != gone})
        return _end(there, late)

    async def resize_disk(self, guest: GuestSpec, disk: Disk) -> GuestStatus:
        late = await self._before("resize_disk", guest.server_id)
        there = self._need(guest.server_id)
        self._plug(there, {**there.volumes, disk.volume_id or disk.id: disk.size_mb})
        return _end(there, late)

    async def swap_disk(self, guest: GuestSpec, old: Disk, new: Disk) -> GuestStatus:
        late = await self._before("swap_disk", guest.server_id)
        there = self._need(guest.server_id)
        kept = {key: size for key, size in there.volumes.items() if key != old.volume_id}
        self._plug(there, {**kept, new.volume_id or new.id: new.size_mb})
        return _end(there, late)

    async def snapshot_volume(self, guest: GuestSpec, disk: Disk, file: str) -> GuestStatus:
        """One file more; at first there is one, with the name volume services give it."""
        late = await self._before("snapshot_volume", guest.server_id)
        there, chain = self._chain(guest, disk)
        if file not in chain:
            there.chains = {**there.chains, disk.volume_id or "": [file, *chain]}
            self._world.keep(self._host.name, there)
        return _end(there, late)

    async def merge_volume(
        self, guest: GuestSpec, disk: Disk, file: str | None, into: str | None
    ) -> GuestStatus:
        """One file less, or several."""
        late = await self._before("merge_volume", guest.server_id)
        there, chain = self._chain(guest, disk)
        if into is not None:
            # The one at the end has a name that only the volume service knows.
            left = [name for name in chain[:-1] if name != file] + chain[-1:]
        elif file is not None:
            left = [chain[0], *chain[_need_file(chain, file) :]]
        else:
            left = chain[:1]
        if left != chain:
            there.chains = {**there.chains, disk.volume_id or "": left}
            self._world.keep(self._host.name, there)
        return _end(there, late)

    def _chain(self, guest: GuestSpec, disk: Disk) -> tuple[FakeGuest, list[str]]:
        there = self._need(guest.server_id)
        if disk.volume_id not in there.volumes:
            raise NotFound(f"The guest {there.name} has no volume {disk.volume_id}.")
        return there, there.chains.get(disk.volume_id, [f"volume-{disk.volume_id}"])

    async def console_log(self, server_id: str) -> bytes:
        await self._before("console_log", server_id)
        return self._need(server_id).console.encode()

    async def console(self, server_id: str, kind: str) -> ConsoleTarget:
        """A made-up address, the same for every guest."""
        guest = self._need(server_id)
        if kind not in CONSOLE_PORTS:
            raise NotFound(f"The guest {guest.name} has no {kind} console.")
        if guest.power != PowerState.RUNNING:
            raise Conflict(f"The guest {guest.name} does not run.")
        return ConsoleTarget(kind, "127.0.0.1", CONSOLE_PORTS[kind], internal_path=CONSOLE_PATH)

    async def pause(self, guest: GuestSpec) -> GuestStatus:
        """Freeze a guest."""
        late = await self._before("pause", guest.server_id)
        there = self._need(guest.server_id)
        if there.power not in (PowerState.PAUSED, PowerState.RUNNING):
            raise Conflict(f"The guest {there.name} is off; start it first.")
        self._turn(there, PowerState.PAUSED)
        return _end(there, late)

    async def suspend(self, guest: GuestSpec) -> GuestStatus:
        """Keep what the guest was doing."""
        late = await self._before("suspend", guest.server_id)
        there = self._need(guest.server_id)
        if there.power not in (PowerState.PAUSED, PowerState.RUNNING, PowerState.SUSPENDED):
            raise Conflict(f"The guest {there.name} is off; start it first.")
        self._turn(there, PowerState.SUSPENDED)
        return _end(there, late)

    async def wake(self, guest: GuestSpec) -> GuestStatus:
        """Let the guest go on with it."""
        late = await self._before("wake", guest.server_id)
        there = self._need(guest.server_id)
        self._turn(there, PowerState.RUNNING)
        return _end(there, late)

    async def inject_nmi(self, guest: GuestSpec) -> GuestStatus:
        """The guest's kernel says that it dumps its memory."""
        late = await self._before("inject_nmi", guest.server_id)
        there = self._need(guest.server_id)
        if there.power not in (PowerState.PAUSED, PowerState.RUNNING):
            raise Conflict(f"The guest {there.name} is off; start it first.")
        there.console += f"{there.name}: crash dump\n"
        self._world.keep(self._host.name, there)
        return _end(there, late)

    async def snapshot(self, guest: GuestSpec, image_id: str) -> Snapped:
        """A copy is no more than a note."""
        late = await self._before("snapshot", guest.server_id)
        there = self._need(guest.server_id)
        there.copies = {image_id: "raw"}
        self._world.keep(self._host.name, there)
        if late is not None:
            raise late
        return Snapped("raw", len(disk_content(there.name)))

    async def send_snapshot(self, guest: GuestSpec, image_id: str) -> Snapped:
        """Send what is on every fake disk."""
        late = await self._before("send_snapshot", guest.server_id)
        there = self._need(guest.server_id)
        if self._host.sink is None:
            raise Unavailable(f"Host {self._host.name} has nowhere to send images to.")
        content = disk_content(there.name)
        form = there.copies.get(image_id, "raw")

        def data() -> AsyncIterator[bytes]:
            if image_id not in there.copies:
                raise NotFound(f"Host {self._host.name} has no copy for the image {image_id}.")
            return _once(content)

        await self._host.sink.upload(image_id, form, data)
        self._drop(there, image_id)
        if late is not None:
            raise late
        return Snapped(form, len(content))

    async def drop_snapshot(self, guest: GuestSpec, image_id: str) -> None:
        """The copy is gone."""
        late = await self._before("drop_snapshot", guest.server_id)
        there = self._world.guests(self._host.name).get(guest.server_id)
        if there is not None:
            self._drop(there, image_id)
        if late is not None:
            raise late

    async def quiesce(self, guest: GuestSpec) -> None:
        """The guest stands still, if its image says that somebody in there listens."""
        late = await self._before("quiesce", guest.server_id)
        there = self._need(guest.server_id)
        if not properties.flag(properties.of(guest), "hw_qemu_guest_agent"):
            raise NotSupported(f"The guest {guest.name} has no agent that could quiesce it.")
        there.frozen = True
        self._world.keep(self._host.name, there)
        if late is not None:
            raise late

    async def unquiesce(self, guest: GuestSpec) -> None:
        """It goes on."""
        late = await self._before("unquiesce", guest.server_id)
        there = self._need(guest.server_id)
        there.frozen = False
        self._world.keep(self._host.name, there)
        if late is not None:
            raise late

    async def attach_nic(self, guest: GuestSpec, nic: Nic) -> GuestStatus:
        """One card more."""
        late = await self._before("attach_nic", guest.server_id)
        there = self._need(guest.server_id)
        there.cards = {**there.cards, nic.port_id: nic.mac}
        self._world.keep(self._host.name, there)
        return _end(there, late)

    async def detach_nic(self, guest: GuestSpec, nic: Nic) -> GuestStatus:
        """One card less."""
        late = await self._before("detach_nic", guest.server_id)
        there = self._need(guest.server_id)
        there.cards = {port: mac for port, mac in there.cards.items() if port != nic.port_id}
        self._world.keep(self._host.name, there)
        return _end(there, late)

    async def depart(
        self, guest: GuestSpec, move: str, *, seconds: int, offer: bool
    ) -> Offer | None:
        """Switch a guest off and put it aside."""
        late = await self._before("depart", guest.server_id)
        there = self._world.guests(self._host.name).get(guest.server_id)
        aside = self._world.aside(self._host.name).get(guest.server_id)
        if there is not None:
            if there.deaf and there.power == PowerState.RUNNING and seconds:
                await self._host.clock.sleep(seconds)
            self._turn(there, PowerState.SHUTDOWN)
            self._world.put_aside(self._host.name, guest.server_id, move)
        elif aside is None or aside.move != move:
            raise NotFound(f"Host {self._host.name} has no guest for server {guest.server_id}.")
        if late is not None:
            raise late
        return Offer(self._host.name, 1, "fake", "00", {"vda": "vda"}) if offer else None

    async def arrive(
        self, guest: GuestSpec, move: str, offer: Offer | None, *, start: bool, paused: bool
    ) -> GuestStatus:
        """Make a guest again; one that is not offered must be aside here."""
        late = await self._before("arrive", guest.server_id)
        there = self._world.guests(self._host.name).get(guest.server_id)
        aside = self._world.aside(self._host.name).get(guest.server_id)
        if there is None:
            if offer is None and (aside is None or aside.move != move):
                raise NotFound(f"Nothing of server {guest.server_id} is aside on this host.")
            running = PowerState.PAUSED if paused else PowerState.RUNNING
            power = running if start else PowerState.SHUTDOWN
            there = self._world.make(self._host.name, guest, power)
        return _end(there, late)

    async def come_back(
        self, guest: GuestSpec, move: str, *, start: bool, paused: bool
    ) -> GuestStatus:
        """A guest that was aside is there again."""
        late = await self._before("come_back", guest.server_id)
        aside = self._world.aside(self._host.name).get(guest.server_id)
        if aside is not None and aside.move == move:
            self._world.drop(self._host.name, guest.server_id)
            self._world.take_back(self._host.name, guest.server_id)
        there = self._world.guests(self._host.name).get(guest.server_id)
        if there is None:
            return GuestStatus(guest.server_id, "", PowerState.NOSTATE)
        self._plug(there, volumes_of(guest))
        if start and there.power == PowerState.SHUTDOWN:
            self._turn(there, PowerState.PAUSED if paused else PowerState.RUNNING)
        return _end(there, late)

    async def end_offer(self, guest: GuestSpec, move: str) -> None:
        """Nothing was exported."""
        late = await self._before("end_offer", guest.server_id)
        if late is not None:
            raise late

    async def forget_aside(self, guest: GuestSpec, move: str) -> None:
        """A guest that is aside is gone."""
        late = await self._before("forget_aside", guest.server_id)
        aside = self._world.aside(self._host.name).get(guest.server_id)
        if aside is not None and move in ("", aside.move):
            self._world.drop_aside(self._host.name, guest.server_id)
        if late is not None:
            raise late

    def _recall(self, server_id: str) -> None:
        """A guest that nobody brought back takes its place when it is wanted."""
        aside = self._world.aside(self._host.name)
        if server_id in aside and server_id not in self._world.guests(self._host.name):
            self._world.take_back(self._host.name, server_id)

    async def diagnostics(self, server_id: str) -> Diagnostics:
        """Made-up counters, the same for every guest."""
        await self._before("diagnostics", server_id)
        guest = self._need(server_id)
        return Diagnostics(
            state=guest.power.name.lower(),
            driver="libvirt",
            hypervisor="fake",
            hypervisor_os="fake-os",
            uptime=46664,
            config_drive=True,
            maximum_memory=guest.memory_mb,
            used_memory=guest.memory_mb,
            cpus=tuple(CpuUse(cpu, 17300000000, 15) for cpu in range(guest.vcpus)),
            nics=tuple(
                NicUse(mac, f"tap{port}"[:14], 2070139, 100, 200, 26701, 300, 140208, 0, 0, 662, 0)
                for port, mac in guest.cards.items()
            ),
            disks=tuple(
                DiskUse(f"vd{letter}", 262144, 112, 5778432, 488, 1)
                for letter in string.ascii_lowercase[: 1 + len(guest.volumes)]
            ),
        )

    async def switch_host(self, action: str) -> None:
        """Simulated hosts agree to everything, and go on."""
        await self._world.before("switch_host", self._host.name, None)

    async def leftovers(self, known: frozenset[str]) -> list[str]:
        found = [
            *self._world.guests(self._host.name).items(),
            *self._world.aside(self._host.name).items(),
        ]
        return [
            f"guest {guest.name} of server {server_id}"
            for server_id, guest in found
            if server_id not in known
        ]

    async def _before(self, operation: str, server_id: str) -> Exception | None:
        return await self._world.before(operation, self._host.name, server_id)

    def _need(self, server_id: str) -> FakeGuest:
        guest = self._world.guests(self._host.name).get(server_id)
        if guest is None:
            raise NotFound(f"Host {self._host.name} has no guest for server {server_id}.")
        return guest

    def _start(self, there: FakeGuest, guest: GuestSpec) -> None:
        """What a start changes: volumes, and which disk it starts from."""
        images = (disk.image for disk in guest.disks if disk.role == ROLE)
        there.rescue = next((image.id for image in images if image is not None), "")
        self._plug(there, volumes_of(guest), shares_of(guest))
        self._world.keep(self._host.name, there)

    def _plug(
        self, guest: FakeGuest, volumes: dict[str, int], shares: dict[str, str] | None = None
    ) -> None:
        if shares is not None and guest.shares != shares:
            guest.shares = shares
            self._world.keep(self._host.name, guest)
        if guest.volumes != volumes:
            guest.volumes = volumes
            guest.chains = {key: files for key, files in guest.chains.items() if key in volumes}
            self._world.keep(self._host.name, guest)

    def _drop(self, guest: FakeGuest, image_id: str) -> None:
        if image_id in guest.copies:
            guest.copies = {k: v for k, v in guest.copies.items() if k != image_id}
            self._world.keep(self._host.name, guest)

    def _turn(self, guest: FakeGuest, power: PowerState, *, always: bool = False) -> None:
        if guest.power == power and not always:
            return
        if power == PowerState.RUNNING and guest.power in (
            PowerState.SHUTDOWN,
            PowerState.CRASHED,
        ):
            guest.console += boot_messages(guest.name, guest.vcpus, guest.memory_mb)
        guest.power = power
        self._world.keep(self._host.name, guest)


def _end(guest: FakeGuest, late: Exception | None) -> GuestStatus:
    if late is not None:
        raise late
    return guest.status()


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _need_file(chain: list[str], file: str) -> int:
    if file not in chain:
        raise NotFound(f"The volume has no file {file}.")
    return chain.index(file)
