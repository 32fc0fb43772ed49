"""Where values of payloads come from that are not simply an attribute; pure."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import types
from typing import Any

import msgspec

from kilonova.domain import image_properties
from kilonova.domain.fit.shapes import DeviceSpec, GuestCell, GuestTopology
from kilonova.domain.guest import Disk, FlavorSpec, ImageRef
from kilonova.domain.request import RequestSpec
from kilonova.domain.resources import Group
from kilonova.notifications.facts import FlavorFacts, GroupFacts, ServerFacts

POWER = types.MappingProxyType(
    {0: "pending", 1: "running", 3: "paused", 4: "shutdown", 6: "crashed", 7: "suspended"}
)
TEXTS = frozenset(
    {
        "hw_auto_disk_config",
        "hw_cpu_realtime_mask",
        "hw_disk_type",
        "hw_machine_type",
        "hw_mem_page_size",
        "img_owner_id",
        "img_root_device_name",
        "img_signature",
        "os_admin_user",
        "os_command_line",
        "os_distro",
        "img_hv_requested_version",
    }
)
TRUTHS = frozenset(
    {
        "hw_boot_menu",
        "hw_firmware_stateless",
        "hw_ipxe_boot",
        "hw_locked_memory",
        "hw_mem_encryption",
        "hw_pmu",
        "hw_qemu_guest_agent",
        "hw_time_hpet",
        "hw_vif_multiqueue_enabled",
        "hw_ephemeral_encryption",
        "hw_virtio_packed_ring",
        "img_bittorrent",
        "img_bdm_v2",
        "img_cache_in_nova",
        "img_linked_clone",
        "img_use_agent",
        "img_hide_hypervisor_id",
        "os_require_quiesce",
        "os_skip_agent_inject_files_at_boot",
        "os_skip_agent_inject_ssh",
    }
)
NUMBERS = image_properties.NUMBERS
IDS = frozenset({"img_signature_certificate_uuid"})
TYPED = tuple(sorted({*image_properties.WORDS, *NUMBERS, *IDS, *TEXTS, *TRUTHS}))
"""The image properties a payload knows, lists and dictionaries left out."""
_OLDER = {new: old for old, new in image_properties.OLD_NAMES.items()}


class Address(msgspec.Struct, frozen=True):
    """One fixed address of one card."""

    label: str
    mac: str
    port_uuid: str
    version: int
    address: str
    device: str = ""
    meta: dict[str, str] = {}


class Destination(msgspec.Struct, frozen=True):
    """A host that was asked for."""

    host: str
    node: str | None


class Retries(msgspec.Struct, frozen=True):
    """Hosts that were tried before."""

    num_attempts: int
    hosts: tuple[str, ...]


class AskedTopology(msgspec.Struct, frozen=True):
    """The NUMA cells a server wants."""

    server_id: str
    topology: GuestTopology


class AskedCell(msgspec.Struct, frozen=True):
    """One of them."""

    cell: GuestCell
    topology: GuestTopology


def image_property(x: ServerFacts, *names: str) -> str | None:
    """The first of these properties that the server's image has."""
    properties = x.server.image.properties if x.server.image else {}
    return next((properties[name] for name in names if properties.get(name)), None)


def own_flavor(x: ServerFacts) -> FlavorFacts:
    """The flavor copied into the server."""
    return FlavorFacts(x.server.flavor)


def own_flavor_of(request: RequestSpec) -> FlavorFacts:
    """The flavor of what is to be placed."""
    return FlavorFacts(request.flavor)


def new_flavor(x: ServerFacts) -> FlavorFacts | None:
    """The flavor the server is resized to."""
    flavor = x.more.get("new_flavor")
    return FlavorFacts(flavor) if isinstance(flavor, FlavorSpec) else None


def image_id(x: ServerFacts) -> str:
    """The image; empty for a server that boots from a volume."""
    return x.server.image.id if x.server.image else ""


def power_state(x: ServerFacts) -> str:
    """The word for a power state."""
    return POWER.get(x.server.power_state, "pending")


def deleted_at(x: ServerFacts) -> dt.datetime | None:
    """When a deleted server was deleted."""
    return x.server.terminated_at if x.server.deleted else None


def addresses(x: ServerFacts) -> tuple[Address, ...]:
    """All fixed addresses of the server's cards."""
    return tuple(
        Address(nic.network_label, nic.mac, nic.port_id, ip.version, ip.address, nic.device)
        for nic in x.nics
        for ip in nic.ips
    )


def volumes(x: ServerFacts) -> tuple[Disk, ...]:
    """The server's disks that are volumes."""
    return tuple(disk for disk in x.disks if disk.volume_id is not None)


def before(x: ServerFacts, name: str) -> Any:
    """What a state was before; of a new server nothing."""
    return getattr(x.before, name) if x.before is not None else None


def old_name(x: ServerFacts) -> str | None:
    """The former name of a server that was given another."""
    if x.before is None or x.before.name == x.server.name:
        return None
    return x.before.name


def last_word(step: str) -> str:
    """``spawn`` of ``build_on#host1/spawn``."""
    return step.rpartition("/")[2].partition("#")[0] or "unknown"


def fingerprint(public_key: str, kind: str) -> str:
    """The MD5 fingerprint of an SSH key (RFC 4716, section 4); empty for anything else."""
    words = public_key.split()
    if kind != "ssh" or len(words) < 2:
        return ""
    try:
        raw = base64.b64decode(words[1], validate=True)
    except (ValueError, binascii.Error):
        return ""
    return hashlib.md5(raw, usedforsecurity=False).digest().hex(":")


def typed_property(image: ImageRef, name: str) -> Any:
    """An image property as the type it is of; UNSET when the image has none that fits."""
    text = image.properties.get(name)
    if text is None:
        text = image.properties.get(_OLDER.get(name, ""))
    if text is None:
        return msgspec.UNSET
    if name in NUMBERS:
        return int(text) if text.strip().lstrip("+-").isdigit() else msgspec.UNSET
    if name in TRUTHS:
        return text.strip().lower() in ("1", "true", "yes", "on", "t", "y")
    words = image_properties.WORDS.get(name)
    if words is None:
        return text
    spelled = image_properties.OTHER_WORDS.get(text.lower(), text.lower())
    return next((word for word in words if word.lower() == spelled), msgspec.UNSET)


def asked_group(request: RequestSpec) -> GroupFacts | None:
    """The group servers are placed with, as far as the scheduler is told of it."""
    group = request.group
    if group is None:
        return None
    owner, user = request.project_id, request.user_id
    return GroupFacts(Group(group.id, "", owner, user, group.policy, group.rules))


def asked_topology(request: RequestSpec) -> AskedTopology | None:
    """The NUMA cells that are wanted."""
    topology = request.shape.topology
    return AskedTopology(request.servers[0], topology) if topology is not None else None


def cells(topology: GuestTopology) -> tuple[AskedCell, ...]:
    """Its cells, each with the whole."""
    return tuple(AskedCell(cell, topology) for cell in topology.cells)


def asked_devices(request: RequestSpec) -> RequestSpec | None:
    """The request itself when it wants PCI devices."""
    return request if request.shape.devices else None


def device_spec(spec: DeviceSpec) -> dict[str, str]:
    """What is said of a device, as text."""
    said = {
        "vendor_id": spec.vendor_id,
        "product_id": spec.product_id,
        "dev_type": spec.device_type,
        "resource_class": spec.resource_class,
        **spec.tags,
    }
    return {key: value for key, value in said.items() if value}


def asked_destination(request: RequestSpec) -> Destination | None:
    """The host that was asked for."""
    if request.requested_host is None:
        return None
    return Destination(request.requested_host, request.requested_node)


def tried(request: RequestSpec) -> Retries | None:
    """The hosts that are not to be tried again."""
    hosts = request.ignore_hosts
    return Retries(len(hosts), hosts) if hosts else None
