"""The world the fake hypervisors live in: their guests, their script, and a file to remember."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import msgspec

from kilonova.base.clock import Clock
from kilonova.base.errors import NotFound
from kilonova.domain.fit.shapes import HostShape
from kilonova.domain.guest import GuestSpec, GuestStatus, PowerState
from kilonova.virt.driver import GuestEvent
from kilonova.virt.fake.script import Script

CONSOLE_KEPT = 1 << 20
ASIDE = "/aside"
"""Behind a host's name: its guests that are aside. No host has such a name."""


SHARES = ("COMPUTE_MEM_BACKING_FILE", "COMPUTE_STORAGE_VIRTIO_FS")
"""Traits of hosts whose guests can have file shares."""


class Capacity(msgspec.Struct, frozen=True):
    """What a fake host offers: memory MiB, disk GiB."""

    vcpus: int = 1000
    memory_mb: int = 800_000
    disk_gb: int = 600_000
    hypervisor_type: str = "fake"
    hypervisor_version: int = 1000
    traits: tuple[str, ...] = SHARES
    pcpus: int = 0
    shape: HostShape | None = None


PLENTY = Capacity()
MEDIUM = Capacity(vcpus=10, memory_mb=8192, disk_gb=1028)
SMALL = Capacity(vcpus=2, memory_mb=8192, disk_gb=1028)


def volumes_of(spec: GuestSpec) -> dict[str, int]:
    """Volume id → MiB of the volumes in a description."""
    return {disk.volume_id: disk.size_mb for disk in spec.disks if disk.volume_id}


def shares_of(spec: GuestSpec) -> dict[str, str]:
    """Tag → share id of the file shares in a description."""
    return {share.tag: share.share_id for share in spec.shares or ()}


def boot_messages(name: str, vcpus: int, memory_mb: int) -> str:
    """What a guest says on its serial console when it is switched on."""
    return (
        f"{name}: power on\n"
        f"{name}: {vcpus} CPUs, {memory_mb} MiB of memory\n"
        f"{name}: starting the fake kernel\n"
        f"{name}: the root file system is there\n"
        f"{name}: ready\n\n"
        f"{name} login:\n"
    )


def disk_content(name: str) -> bytes:
    """What is on a guest's disk, as a raw image."""
    return f"the disk of {name}\n".encode().ljust(64 << 10, b"\0")


class FakeGuest(msgspec.Struct):
    """A guest: its size (memory MiB, disk GiB), power state, console, and whether it reacts.

    ``volumes``: volume id → MiB, of those plugged in. ``image``: what its root disk was made of;
    ``rescue``: what it starts from instead, while it is rescued. ``agent``: something inside it
    answers. ``passwords``: how often it was given another one.
    """

    server_id: str
    name: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    power: PowerState
    console: str = ""
    deaf: bool = False
    volumes: dict[str, int] = {}
    cards: dict[str, str] = {}
    """Port id → MAC address."""
    arriving: bool = False
    move: str = ""
    """The move it is aside for."""
    copies: dict[str, str] = {}
    """Image id → disk format, of the copies of its disk that are kept."""
    frozen: bool = False
    image: str = ""
    rescue: str = ""
    agent: bool = True
    passwords: int = 0
    chains: dict[str, list[str]] = {}
    """Volume id → the files it is made of, its own first, of volumes with snapshots."""
    shares: dict[str, str] = {}
    """Tag → share id, of those it was started with."""

    def status(self, detail: str = "") -> GuestStatus:
        """As the driver tells it."""
        return GuestStatus(self.server_id, self.name, self.power, detail=detail)


class FakeWorld(Script):
    """All fake hosts of a process.

    With a ``file`` guests outlive the process: every change is in the file when the call returns
    (an SQLite database; written without waiting for the disk, so a power cut may lose the last).
    """

    def __init__(
        self, *, clock: Clock, file: Path | None = None, capacity: Capacity = PLENTY
    ) -> None:
        super().__init__(clock)
        self.capacity = capacity
        self._capacities: dict[str, Capacity] = {}
        self._shared: bool | None = None
        self._hosts: dict[str, dict[str, FakeGuest]] = {}
        self._listeners: dict[str, GuestEvent] = {}
        self._file = _open(file) if file is not None else None
        if self._file is not None:
            for host, blob in self._file.execute("SELECT host, guest FROM guests"):
                guest = msgspec.msgpack.decode(blob, type=FakeGuest)
                self._hosts.setdefault(host, {})[guest.server_id] = guest

    # Knobs beside those of the script.

    def offers(self, capacity: Capacity, *, on: str) -> None:
        """Give one host its own capacity."""
        self._capacities[on] = capacity

    def capacity_of(self, host: str) -> Capacity:
        """What that host offers."""
        return self._capacities.get(host, self.capacity)

    def shares_disks(self, shared: bool | None) -> None:
        """Whether the hosts' guests lie in one directory; None: hosts agree to either."""
        self._shared = shared

    def store_of(self, host: str) -> str:
        """The name of the directory that holds the host's guests."""
        return {None: "", True: "shared", False: host}[self._shared]

    def deaf(self, server_id: str, *, deaf: bool = True) -> None:
        """Let a guest ignore polite requests to shut down or reboot."""
        host, guest = self._find(server_id)
        guest.deaf = deaf
        self.keep(host, guest)

    def without_agent(self, server_id: str) -> None:
        """Let nothing inside a guest answer any more."""
        host, guest = self._find(server_id)
        guest.agent = False
        self.keep(host, guest)

    def says(self, server_id: str, text: str) -> None:
        """Add to a guest's serial console."""
        host, guest = self._find(server_id)
        guest.console = (guest.console + text)[-CONSOLE_KEPT:]
        self.keep(host, guest)

    async def vanishes(self, server_id: str) -> None:
        """Let the hypervisor lose a guest without a trace."""
        host, guest = self._find(server_id)
        self.drop(host, server_id)
        guest.power = PowerState.NOSTATE
        await self._tell(host, guest.status("vanished"))

    async def shuts_down(self, server_id: str) -> None:
        """Let a guest switch itself off from inside."""
        await self._turns(server_id, PowerState.SHUTDOWN, "guest-shutdown")

    async def crashes(self, server_id: str) -> None:
        """Let a guest crash."""
        await self._turns(server_id, PowerState.CRASHED, "crashed")

    # For the drivers.

    def guests(self, host: str) -> dict[str, FakeGuest]:
        """Server id → guest on that host."""
        return self._hosts.setdefault(host, {})

    def aside(self, host: str) -> dict[str, FakeGuest]:
        """Server id → guest that is aside on that host."""
        return self.guests(f"{host}{ASIDE}")

    def put_aside(self, host: str, server_id: str, move: str) -> None:
        """Keep a guest beside the others."""
        guest = self.guests(host)[server_id]
        guest.move = move
        self._carry(server_id, host, f"{host}{ASIDE}")

    def take_back(self, host: str, server_id: str) -> None:
        """The guest that is aside is there again."""
        self.aside(host)[server_id].move = ""
        self._carry(server_id, f"{host}{ASIDE}", host)

    def drop_aside(self, host: str, server_id: str) -> None:
        """Forget the guest that is aside."""
        self.drop(f"{host}{ASIDE}", server_id)

    def _carry(self, server_id: str, host: str, to: str) -> None:
        guest = self.guests(host)[server_id]
        self.guests(to)[server_id] = guest
        self.keep(to, guest)
        self.drop(host, server_id)

    def make(self, host: str, spec: GuestSpec, power: PowerState) -> FakeGuest:
        """A new guest on a host."""
        flavor = spec.flavor
        guest = FakeGuest(
            spec.server_id,
            spec.name,
            flavor.vcpus,
            flavor.memory_mb,
            flavor.root_gb + flavor.ephemeral_gb,
            power,
            console=boot_messages(spec.name, flavor.vcpus, flavor.memory_mb),
            volumes=volumes_of(spec),
            cards={nic.port_id: nic.mac for nic in spec.nics},
            image=spec.image.id if spec.image is not None else "",
            shares=shares_of(spec),
        )
        self.guests(host)[spec.server_id] = guest
        self.keep(host, guest)
        return guest

    def keep(self, host: str, guest: FakeGuest) -> None:
        """Write a changed guest to the file."""
        if self._file is not None:
            self._file.execute(
                "INSERT INTO guests(host, server_id, guest) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET guest = excluded.guest",
                (host, guest.server_id, msgspec.msgpack.encode(guest)),
            )

    def drop(self, host: str, server_id: str) -> None:
        """Forget a guest."""
        self.guests(host).pop(server_id, None)
        if self._file is not None:
            self._file.execute(
                "DELETE FROM guests WHERE host = ? AND server_id = ?", (host, server_id)
            )

    def listen(self, host: str, listener: GuestEvent | None) -> None:
        """Who hears of events on that host."""
        self._listeners.pop(host, None)
        if listener is not None:
            self._listeners[host] = listener

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _find(self, server_id: str) -> tuple[str, FakeGuest]:
        for host, guests in self._hosts.items():
            if server_id in guests and not host.endswith(ASIDE):
                return host, guests[server_id]
        raise NotFound(f"No fake host has a guest for server {server_id}.")

    async def _turns(self, server_id: str, power: PowerState, detail: str) -> None:
        host, guest = self._find(server_id)
        guest.power = power
        self.keep(host, guest)
        await self._tell(host, guest.status(detail))

    async def _tell(self, host: str, status: GuestStatus) -> None:
        listener = self._listeners.get(host)
        if listener is not None:
            await listener(status)


def _open(file: Path) -> sqlite3.Connection:
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS guests (host TEXT, server_id TEXT, guest BLOB,"
        " PRIMARY KEY (server_id, host)) WITHOUT ROWID"
    )
    return connection
