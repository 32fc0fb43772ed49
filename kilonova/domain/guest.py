"""GuestSpec: everything a compute agent must know to make and keep one guest, told at once."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from kilonova.domain.fit.shapes import Held, HostShape


class PowerState(enum.IntEnum):
    """Power states with the numbers of ``OS-EXT-STS:power_state``."""

    NOSTATE = 0
    RUNNING = 1
    PAUSED = 3
    SHUTDOWN = 4
    CRASHED = 6
    SUSPENDED = 7


class ImageRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """An image as it was when the server was made. Sizes: bytes; min_disk GiB; min_ram MiB."""

    id: str
    name: str = ""
    disk_format: str = "qcow2"
    container_format: str = "bare"
    size: int = 0
    min_disk: int = 0
    min_ram: int = 0
    checksum: str = ""
    os_hash_algo: str = ""
    os_hash_value: str = ""
    properties: dict[str, str] = {}


class FlavorSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """The flavor copied into the server. memory and swap MiB, disks GiB."""

    id: int
    flavorid: str
    name: str
    vcpus: int
    memory_mb: int
    root_gb: int
    ephemeral_gb: int = 0
    swap_mb: int = 0
    rxtx_factor: float = 1.0
    is_public: bool = True
    disabled: bool = False
    description: str | None = None
    extra_specs: dict[str, str] = {}


class Disk(msgspec.Struct, frozen=True):
    """One disk of a guest.

    ``role``: root, ephemeral, swap, volume or config. ``source``: image (overlay over the cached
    base), blank, or volume (``connection`` says how to reach it, None: not yet). ``device`` is the
    guest's name without ``/dev/`` (``vda``). ``size_mb`` 0 means the image's own size. ``origin``
    and ``origin_id`` say what a volume is made from while it has no ``volume_id``.
    ``file_system``: what a blank disk was asked to be formatted with.
    """

    id: str
    role: str
    source: str
    device: str
    bus: str = "virtio"
    size_mb: int = 0
    boot_index: int | None = None
    image: ImageRef | None = None
    format: str = "qcow2"
    fs_label: str = ""
    serial: str = ""
    volume_id: str | None = None
    connection: dict[str, Any] | None = None
    read_only: bool = False
    device_type: str = "disk"
    tag: str | None = None
    # Left out of what is kept where they say nothing: journals hold disks without them.
    delete_on_termination: bool | msgspec.UnsetType = msgspec.UNSET
    attachment_id: str | msgspec.UnsetType | None = msgspec.UNSET
    origin: str | msgspec.UnsetType = msgspec.UNSET
    origin_id: str | msgspec.UnsetType | None = msgspec.UNSET
    volume_type: str | msgspec.UnsetType | None = msgspec.UNSET
    file_system: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def ends_with_server(self) -> bool:
        """Whether it is deleted with its server: local disks always, volumes when asked for."""
        return self.source != "volume" or bool(self.delete_on_termination)

    @property
    def usable(self) -> bool:
        """Whether a guest can be made with it: a volume needs a connection."""
        return self.source != "volume" or self.connection is not None


class FixedIp(msgspec.Struct, frozen=True):
    """An address of a port with what the guest needs to use it."""

    address: str
    subnet_id: str
    cidr: str
    version: int = 4
    gateway: str | None = None
    dns: tuple[str, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()
    dhcp: bool = True
    ipv6_mode: str | None = None
    floating: tuple[str, ...] = ()


class Nic(msgspec.Struct, frozen=True):
    """One network card of a guest, as the network service bound its port.

    ``vif_type``: bridge (tap ``device`` on bridge ``bridge``), user (user-mode networking without
    root), tap, ovs, unbound, fake. ``details`` is binding:vif_details.
    """

    port_id: str
    mac: str
    network_id: str
    network_label: str = ""
    vif_type: str = "bridge"
    vnic_type: str = "normal"
    model: str = "virtio"
    device: str = ""
    bridge: str = ""
    mtu: int = 1500
    ips: tuple[FixedIp, ...] = ()
    details: dict[str, Any] = {}
    tag: str | None = None
    project_id: str = ""


class GuestShare(msgspec.Struct, frozen=True):
    """A file share that a guest finds by its ``tag``; ``export``: where the host mounts it from.

    ``protocol``: NFS.
    """

    share_id: str
    tag: str
    export: str
    protocol: str = "NFS"


class InjectedFile(msgspec.Struct, frozen=True):
    """A file for the guest: absolute path, base64 contents."""

    path: str
    contents: str


class Keypair(msgspec.Struct, frozen=True):
    """A public key for the guest."""

    name: str
    public_key: str
    type: str = "ssh"


class GuestMetadata(msgspec.Struct, frozen=True):
    """What metadata service and config drive tell the guest about itself."""

    server_id: str
    project_id: str
    user_id: str
    name: str
    hostname: str
    availability_zone: str = "nova"
    launch_index: int = 0
    reservation_id: str = ""
    meta: dict[str, str] = {}
    keys: tuple[Keypair, ...] = ()
    user_data: str | None = None
    admin_pass: str | None = None
    files: tuple[InjectedFile, ...] = ()
    dedicated_cpus: tuple[int, ...] = ()
    security_groups: tuple[str, ...] = ()
    # Not written when there are none: journals hold the hash of a guest as it was before.
    boot_roles: str | msgspec.UnsetType = msgspec.UNSET


class GuestSpec(msgspec.Struct, frozen=True):
    """One guest, complete. ``name`` is the hypervisor's name for it (``instance-0000002a``).

    ``held``: the host's NUMA cells, CPUs, pages and devices that are its own.
    """

    server_id: str
    name: str
    flavor: FlavorSpec
    image: ImageRef | None
    disks: tuple[Disk, ...]
    nics: tuple[Nic, ...]
    metadata: GuestMetadata
    config_drive: bool = False
    root_device: str = "vda"
    properties: dict[str, str] = {}
    launched: bool = False
    # Not written when there is nothing: journals hold the hash of a guest as it was before.
    held: Held | msgspec.UnsetType = msgspec.UNSET
    shares: tuple[GuestShare, ...] | msgspec.UnsetType = msgspec.UNSET


class ConsoleTarget(msgspec.Struct, frozen=True):
    """Where a console proxy connects to. ``kind``: vnc, spice or serial."""

    kind: str
    host: str
    port: int
    tls: bool = False
    internal_path: str | None = None
    password: str | None = None


class GuestStatus(msgspec.Struct, frozen=True):
    """A guest as the hypervisor sees it now; ``pid`` where there is a process."""

    server_id: str
    name: str
    power: PowerState
    pid: int | None = None
    detail: str = ""


class DeviceProvider(msgspec.Struct, frozen=True):
    """PCI devices of one address as a provider in Placement. ``inventory``: class → how many."""

    uuid: str
    name: str
    inventory: dict[str, int]
    traits: tuple[str, ...] = ()


class HostReport(msgspec.Struct, frozen=True):
    """A hypervisor's capacities. memory MiB, disk GiB; ``used_*`` by everything on the host.

    ``reserved`` (resource class → units kept for the host) and ``ratios`` (resource class →
    allocation ratio; ``initial_ratios`` only for a provider that is new) come from the host's
    configuration. ``pcpus`` are CPUs given to guests whole; ``shape`` its NUMA cells and devices,
    as far as the driver tells them. ``failed_builds``: guests in a row it could not make;
    ``metrics``: what its monitors measured; ``devices``: the providers of its PCI devices, None
    where Placement is not to know them. ``connector``: how storage knows the host (its initiators),
    beyond name and address; ``share_ip``: its address towards file shares ("": ``host_ip``).
    """

    node: str
    hypervisor_type: str
    hypervisor_version: int
    vcpus: int
    memory_mb: int
    disk_gb: int
    used_vcpus: int = 0
    used_memory_mb: int = 0
    used_disk_gb: int = 0
    free_disk_gb: int = 0
    cpu_info: dict[str, Any] = {}
    supported: tuple[tuple[str, str, str], ...] = ()
    traits: tuple[str, ...] = ()
    uptime: str = ""
    host_ip: str = "127.0.0.1"
    reserved: dict[str, int] = {}
    ratios: dict[str, float] = {}
    initial_ratios: dict[str, float] = {}
    pcpus: int = 0
    shape: HostShape | None = None
    failed_builds: int = 0
    metrics: dict[str, float] = {}
    devices: tuple[DeviceProvider, ...] | None = None
    connector: dict[str, Any] = {}
    share_ip: str = ""
