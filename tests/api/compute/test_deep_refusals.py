"""Refusals that need more than a request: flavors, images, networks, volumes made for them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kilonova.config.settings import Settings
from kilonova.domain.guest import FlavorSpec
from kilonova.interfaces.network import Network, Port
from kilonova.store import flavors, servers
from kilonova.web.client import Answer
from tests.api.compute.test_refusals import (
    BLANK,
    BOOT,
    NOBODY,
    VOLUME,
    Case,
    Stage,
    act,
    create,
    devices,
    get,
)
from tests.support.cloud import IMAGE, NETWORK, OTHER, PROJECT, Cloud, body
from tests.support.compute import NOW

_numbers = itertools.count(1)


def message(answer: Answer, status: int) -> str:
    """The words of a refusal."""
    assert answer.status == status, answer.text
    (fault,) = answer.json().values()
    return str(fault["message"])


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """One for all rows: a refusal changes nothing."""
    made = Stage()
    yield made
    made.cloud.close()


# -- extra specs -----------------------------------------------------------------------------------

WRONG_SPECS = [
    ("hw:cpu_realtime", "sometimes"), ("hw:cpu_realtime_mask", "first"),
    ("hw:hide_hypervisor_id", "x"), ("hw:cpu_policy", "own"), ("hw:cpu_thread_policy", "any"),
    ("hw:emulator_threads_policy", "x"), ("hw:cpu_dedicated_mask", "x"),
    ("hw:mem_page_size", "huge"), ("hw:locked_memory", "x"), ("hw:numa_nodes", "0"),
    ("hw:numa_cpus.0", "x"), ("hw:numa_mem.0", "x"), ("hw:pci_numa_affinity_policy", "near"),
    ("hw:cpu_sockets", "x"), ("hw:cpu_cores", "-1"), ("hw:cpu_threads", "x"),
    ("hw:cpu_max_sockets", "x"), ("hw:cpu_max_cores", "x"), ("hw:cpu_max_threads", "x"),
    ("hw:boot_menu", "x"), ("hw:vif_multiqueue_enabled", "x"), ("hw:mem_encryption", "x"),
    ("hw:mem_encryption_model", "sgx"), ("hw:pmem", "6 GB"), ("hw:pmu", "x"),
    ("hw:serial_port_count", "x"), ("hw:tpm_model", "tpm"), ("hw:tpm_version", "3"),
    ("hw:tpm_secret_security", "x"), ("hw:watchdog_action", "bark"), ("hw:viommu_model", "x"),
    ("hw:virtio_packed_ring", "x"), ("hw:sound_model", "loud"), ("hw:usb_model", "x"),
    ("hw:redirected_usb_ports", "16"), ("hw:ephemeral_encryption", "x"),
    ("hw:ephemeral_encryption_format", "zip"), ("hw:maxphysaddr_mode", "x"),
    ("hw:maxphysaddr_bits", "x"), ("hw:nothing", "1"),
    ("hw_rng:allowed", "x"), ("hw_rng:rate_bytes", "x"), ("hw_rng:rate_period", "-1"),
    ("hw_rng:colour", "x"), ("hw_video:ram_max_mb", "x"), ("hw_video:nothing", "1"),
    ("os:secure_boot", "perhaps"), ("os:colour", "x"),
    ("pci_passthrough:alias", "a1"), ("pci_passthrough:nothing", "a1:1"),
    ("quota:cpu_shares", "x"), ("quota:cpu_period", "-1"), ("quota:cpu_quota", "x"),
    ("quota:cpu_limit", "x"), ("quota:cpu_shares_level", "x"), ("quota:memory_limit", "-1"),
    ("quota:memory_shares_level", "x"), ("quota:disk_io_limit", "x"),
    ("quota:disk_io_shares_level", "x"), ("quota:vif_limit", "x"), ("quota:vif_shares_level", "x"),
    *((f"quota:disk_{way}_{unit}_sec", "x") for way in ("read", "write", "total")
      for unit in ("bytes", "iops")),
    *((f"quota:vif_{way}_{what}", "-1") for way in ("inbound", "outbound")
      for what in ("average", "peak", "burst")),
    ("quota:nothing", "1"),
    ("resources:VCPU", "x"), ("resources1:CUSTOM_GOLD", "x"), ("resources:NOTHING", "1"),
    ("trait:HW_CPU_X86_AVX", "perhaps"), ("trait_1:CUSTOM_A", "yes"), ("trait:NOTHING", "required"),
    ("group_policy", "apart"), ("capabilities:nothing", "1"), ("vmware:nothing", "1"),
    ("accel:nothing", "1"),
]  # fmt: skip
RIGHT_SPECS = {
    "hw:cpu_policy": "dedicated", "hw:cpu_realtime_mask": "^0", "hw:mem_page_size": "2MB",
    "hw:numa_nodes": "2", "hw:redirected_usb_ports": "15", "hw_rng:allowed": "true",
    "os:secure_boot": "required", "pci_passthrough:alias": "a1:2,b2:1", "quota:cpu_quota": "-1",
    "resources2:CUSTOM_GOLD": "1", "trait:CUSTOM_A": "forbidden", "group_policy": "isolate",
    "capabilities:cpu_info:features": "avx", "accel:device_profile": "fpga",
    "vmware:storage_policy": "gold", "aggregate_instance_extra_specs:any": "<in> x",
    "own:key": "anything", "plain": "anything",
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), WRONG_SPECS, ids=lambda text: text.replace(" ", "_"))
async def test_wrong_extra_specs(stage: Stage, key: str, value: str) -> None:
    given = {"extra_specs": {key: value}}
    admin = stage.cloud.client("admin", "2.86")
    path = "/v2.1/flavors/1/os-extra_specs"
    message(await admin.post(path, json=given), 400)
    message(await admin.put(f"{path}/{key}", json={key: value}), 400)


async def test_right_extra_specs(stage: Stage) -> None:
    flavor = FlavorSpec(0, "right", "right", 1, 512, 1)
    stage.cloud.db.run_sync(flavors.create, flavor, now=NOW)
    admin = stage.cloud.client("admin", "2.86")
    answer = await admin.post(
        "/v2.1/flavors/right/os-extra_specs", json={"extra_specs": RIGHT_SPECS}
    )
    assert answer.status == 200, answer.text
    old = stage.cloud.client("admin", "2.85")
    unchecked = {"extra_specs": {"hw:colour": "red"}}
    answer = await old.post("/v2.1/flavors/right/os-extra_specs", json=unchecked)
    assert answer.status == 200, answer.text


# -- flavors and images together -------------------------------------------------------------------

DEDICATED = {"hw:cpu_policy": "dedicated"}
REALTIME = {"hw:cpu_realtime": "yes"}
ENCRYPTED = {"hw:mem_encryption": "yes"}
SHAPES: list[tuple[dict[str, str], dict[str, str], str]] = [
    ({"hw:cpu_policy": "shared"}, {"hw_cpu_policy": "dedicated"}, ""),
    ({"hw:cpu_thread_policy": "isolate"}, {}, ""),
    ({**DEDICATED, "hw:cpu_thread_policy": "isolate"}, {"hw_cpu_thread_policy": "require"}, ""),
    ({"hw:cpu_policy": "mixed"}, {}, ""),
    (REALTIME, {}, ""),
    ({**DEDICATED, **REALTIME, "hw:cpu_realtime_mask": "^0-1"}, {}, ""),
    ({"hw:emulator_threads_policy": "isolate"}, {}, ""),
    ({"hw:numa_nodes": "3"}, {}, ""),
    ({"hw:numa_nodes": "2"}, {"hw_numa_nodes": "1"}, "hw_numa_nodes"),
    ({"hw:numa_nodes": "2", "hw:numa_cpus.0": "0"}, {}, ""),
    ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-7", "hw:numa_mem.0": "512"}, {}, ""),
    ({}, {"hw_mem_page_size": "large"}, ""),
    ({"hw:mem_page_size": "2MB"}, {"hw_mem_page_size": "1GB"}, ""),
    ({"hw:locked_memory": "yes"}, {}, "hw:mem_page_size"),
    ({"hw:locked_memory": "no", "hw:mem_page_size": "any"}, {"hw_locked_memory": "yes"}, ""),
    ({"hw:pci_numa_affinity_policy": "legacy"}, {"hw_pci_numa_affinity_policy": "required"}, ""),
    ({"pci_passthrough:alias": "none:1"}, {}, ""),
    ({"hw:cpu_max_sockets": "1"}, {"hw_cpu_max_sockets": "2"}, "limit"),
    ({"hw:cpu_max_threads": "1"}, {"hw_cpu_threads": "2"}, "limit"),
    ({"hw:serial_port_count": "1"}, {"hw_serial_port_count": "2"}, "serial"),
    ({"hw:tpm_version": "1.2"}, {"hw_tpm_version": "2.0"}, "tpm"),
    ({"hw:tpm_model": "tpm-tis"}, {"hw_tpm_model": "tpm-crb"}, "tpm"),
    ({"os:secure_boot": "required"}, {"os_secure_boot": "disabled"}, "secure_boot"),
    (ENCRYPTED, {"hw_mem_encryption": "no"}, "encryption"),
    (ENCRYPTED, {}, "uefi"),
    (ENCRYPTED, {"hw_firmware_type": "uefi", "hw_machine_type": "pc"}, "q35"),
    ({"hw:viommu_model": "intel"}, {"hw_viommu_model": "virtio"}, "viommu"),
    ({"hw:ephemeral_encryption": "no"}, {"hw_ephemeral_encryption": "yes"}, "encryption"),
    ({"hw:vif_multiqueue_enabled": "no"}, {"hw_vif_multiqueue_enabled": "yes"}, "multiqueue"),
    ({"hw:pmu": "no"}, {"hw_pmu": "yes"}, "pmu"),
]
WRONG_PROPERTIES = {
    "hw_architecture": "z80", "hw_emulation_architecture": "z80", "hw_cdrom_bus": "wire",
    "hw_cpu_cores": "x", "hw_cpu_sockets": "x", "hw_cpu_max_cores": "x", "hw_cpu_policy": "own",
    "hw_cpu_threads": "x", "hw_cpu_thread_policy": "x", "hw_disk_bus": "wire",
    "hw_floppy_bus": "wire", "hw_firmware_type": "coreboot", "hw_input_bus": "ps2",
    "hw_mem_encryption_model": "sgx", "hw_numa_nodes": "x", "hw_pointer_model": "mouse",
    "hw_pci_numa_affinity_policy": "near", "hw_rescue_bus": "wire", "hw_rescue_device": "tape",
    "hw_rng_model": "dice", "hw_serial_port_count": "x", "hw_scsi_model": "x",
    "hw_video_model": "crt", "hw_video_ram": "x", "hw_vif_model": "token-ring",
    "hw_viommu_model": "x", "hw_vm_mode": "x", "hw_watchdog_action": "bark", "hw_tpm_model": "x",
    "hw_tpm_version": "3", "hw_ephemeral_encryption_format": "zip",
    "hw_ephemeral_encryption_secret_uuid": "x", "hw_maxphysaddr_mode": "x",
    "hw_maxphysaddr_bits": "x", "hw_sound_model": "loud", "hw_usb_model": "x",
    "hw_redirected_usb_ports": "x", "img_hv_requested_version": "new", "img_hv_type": "x",
    "img_config_drive": "x", "img_version": "x", "img_compression_level": "x",
    "img_signature_hash_method": "MD5", "img_signature_key_type": "x",
    "img_signature_certificate_uuid": "x", "os_secure_boot": "perhaps", "os_type": "beos",
    # Names of old.
    "architecture": "z80", "vm_mode": "x", "hypervisor_type": "x",
}  # fmt: skip


async def shaped(
    stage: Stage, specs: dict[str, str], properties: dict[str, str], **values: Any
) -> Answer:
    """POST a server of a flavor with these extra specs and an image with these properties."""
    cloud, number = stage.cloud, next(_numbers)
    name = f"shape-{number}"
    flavor = FlavorSpec(0, name, name, 2, 512, 1, extra_specs=specs)
    cloud.db.run_sync(flavors.create, flavor, now=NOW)
    image = msgspec.structs.replace(cloud.images.images[IMAGE], id=f"{number:032x}")
    image = msgspec.structs.replace(image, properties=properties, **values)
    key = f"{image.id[:8]}-0000-4000-8000-{number:012x}"
    cloud.images.images[key] = msgspec.structs.replace(image, id=key)
    given = body(flavorRef=name, imageRef=key, networks="none")
    return await cloud.client(version="2.37").post("/v2.1/servers", json=given)


@pytest.mark.parametrize(
    ("specs", "properties", "words"), SHAPES, ids=[str(n) for n in range(len(SHAPES))]
)
async def test_flavors_and_images_that_do_not_agree(
    stage: Stage, specs: dict[str, str], properties: dict[str, str], words: str
) -> None:
    assert words in message(await shaped(stage, specs, properties), 400)


@pytest.mark.parametrize(("name", "value"), WRONG_PROPERTIES.items(), ids=lambda text: text)
async def test_wrong_image_properties(stage: Stage, name: str, value: str) -> None:
    answer = await shaped(stage, {}, {name: value})
    assert "Invalid image metadata" in message(answer, 400)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"status": "queued"}, "not active"),
        ({"status": "deactivated"}, "not active"),
        ({"min_ram": 1024}, "memory is too small"),
        ({"min_disk": 2}, "disk is too small"),
        ({"size": 3 << 30}, "disk is too small"),
        ({"virtual_size": 3 << 30}, "disk is too small"),
    ],
    ids=str,
)
async def test_images_that_do_not_fit(stage: Stage, values: dict[str, Any], words: str) -> None:
    assert words in message(await shaped(stage, {}, {}, **values), 400)


async def test_an_image_and_a_flavor_that_agree(stage: Stage) -> None:
    for specs, properties in (
        ({"hw:tpm_version": "2.0"}, {"hw_tpm_version": "2.0"}),
        (ENCRYPTED, {"hw_firmware_type": "uefi", "hw_machine_type": "q35"}),
        ({"hw:mem_page_size": "any"}, {"hw_mem_page_size": "small"}),
    ):
        answer = await shaped(stage, specs, properties)
        assert answer.status == 202, answer.text
        stage.cloud.delete(answer.json()["server"]["id"])


# -- networks --------------------------------------------------------------------------------------

OUTSIDE = "22222222-0000-0000-0000-00000000000e"
BARE = "22222222-0000-0000-0000-00000000000b"
USED = "33333333-0000-0000-0000-00000000000a"
FOREIGN = "33333333-0000-0000-0000-00000000000b"
ADDRESSLESS = "33333333-0000-0000-0000-00000000000c"
TAKEN = "10.0.0.77"


class Wired(Stage):
    """With networks and ports of every kind."""

    async def fill(self) -> None:
        """The same and networks."""
        await super().fill()
        net = self.cloud.networks
        net.known[OUTSIDE] = Network(OUTSIDE, "public", OTHER, external=True, subnets=("s2",))
        net.known[BARE] = Network(BARE, "bare", PROJECT)
        for port in (
            Port(USED, NETWORK, PROJECT, "fa:16:3e:00:00:0a", device_id=NOBODY,
                 ips=((TAKEN, "s1"),)),
            Port(FOREIGN, NETWORK, OTHER, "fa:16:3e:00:00:0b"),
            Port(ADDRESSLESS, NETWORK, PROJECT, "fa:16:3e:00:00:0c", ip_allocation="immediate"),
        ):  # fmt: skip
            net.made[port.id] = port


def plug(name: str, status: int, words: str = "", /, **given: Any) -> Case:
    """POST os-interface."""
    return Case(
        name,
        "/v2.1/servers/{sid}/os-interface",
        status,
        {"interfaceAttachment": given},
        "2.49",
        words=words,
    )


WIRED = [
    create("a port in use", 409, "in use", networks=[{"port": USED}]),
    create("somebody else's port", 400, networks=[{"port": FOREIGN}]),
    create("a port without an address", 400, "FixedIP", networks=[{"port": ADDRESSLESS}]),
    create("an external network", 403, "external network", networks=[{"uuid": OUTSIDE}]),
    create("a network without a subnet", 400, "requires a subnet", networks=[{"uuid": BARE}]),
    create("an address that is taken", 400, "already in use",
           networks=[{"uuid": NETWORK, "fixed_ip": TAKEN}]),
    create("one of several networks", 409, "Multiple possible networks", version="2.36"),
    create("a port and its network's address", 400,
           networks=[{"port": ADDRESSLESS, "fixed_ip": "10.0.0.8"}]),
    create("a network of neither", 400, networks=[{}]),
    create("a tag before its time", 400, version="2.31", networks=[{"uuid": NETWORK, "tag": "a"}]),
    create("a tag with a slash", 400, version="2.42", networks=[{"uuid": NETWORK, "tag": "a/b"}]),
    create("networks by a word", 400, version="2.37", networks="some"),
    create("a word before its time", 400, version="2.36", networks="none"),
    plug("a card on a used port", 409, "in use", port_id=USED),
    plug("a card on somebody else's port", 400, "not usable", port_id=FOREIGN),
    plug("a card on a port without an address", 400, "FixedIP", port_id=ADDRESSLESS),
    plug("a card on an external network", 403, "external network", net_id=OUTSIDE),
    plug("a card on a network without a subnet", 400, "requires a subnet", net_id=BARE),
    plug("a card with an address that is taken", 400, "already in use",
         net_id=NETWORK, fixed_ips=[{"ip_address": TAKEN}]),
    plug("a card with an address of no network", 400, "network_id",
         fixed_ips=[{"ip_address": "10.0.0.9"}]),
    plug("a card with a network and a port", 400, "both", net_id=NETWORK, port_id=USED),
    plug("a card with two addresses", 400,
         net_id=NETWORK, fixed_ips=[{"ip_address": "10.0.0.9"}, {"ip_address": "10.0.0.10"}]),
    plug("one of several networks for a card", 409, "Multiple possible networks"),
    plug("a card of wrong words", 400, colour="red"),
    Case("a tagged card before its time", "/v2.1/servers/{sid}/os-interface", 400,
         {"interfaceAttachment": {"net_id": NETWORK, "tag": "a"}}, "2.48"),
    Case("a card of nothing", "/v2.1/servers/{sid}/os-interface/" + NOBODY, 404,
         method="DELETE"),
    get("a card it has not", f"/servers/{{sid}}/os-interface/{USED}", 404),
    Case("a card for a building server", f"/v2.1/servers/{NOBODY}/os-interface", 404,
         {"interfaceAttachment": {}}),
]  # fmt: skip


@pytest.fixture(scope="module")
def wired() -> Iterator[Stage]:
    """A stage with networks."""
    made = Wired()
    yield made
    made.cloud.close()


@pytest.mark.parametrize("case", WIRED, ids=lambda case: case.name.replace(" ", "-"))
async def test_networks(wired: Stage, case: Case) -> None:
    await wired.play(case)


# -- volumes ---------------------------------------------------------------------------------------

SHARED = "88888888-0000-4000-8000-00000000000b"
BUSY = "88888888-0000-4000-8000-00000000000c"
LOCKED_UP = "88888888-0000-4000-8000-00000000000d"
PLAIN = "88888888-0000-4000-8000-00000000000e"
FAR = "88888888-0000-4000-8000-00000000000f"


class Stocked(Stage):
    """With volumes of every kind, and zones that volumes and servers must share."""

    def __init__(self) -> None:
        super().__init__()
        self.cloud.close()
        plain = Settings()
        self.cloud = Cloud(
            msgspec.structs.replace(
                plain,
                cinder=msgspec.structs.replace(plain.cinder, cross_az_attach=False),
                compute=msgspec.structs.replace(plain.compute, max_disk_devices_to_attach=3),
            )
        )

    async def fill(self) -> None:
        """The same and volumes."""
        # The aggregate puts the host into this zone.
        self.cloud.volumes.add(VOLUME, bootable=True, project_id=PROJECT, zone="east")
        await super().fill()
        table = self.cloud.volumes
        table.add(SHARED, status="in-use", multiattach=True, zone="nova")
        table.add(BUSY, status="in-use", zone="nova")
        table.add(LOCKED_UP, encrypted=True, zone="nova")
        table.add(PLAIN, zone="nova")
        table.add(FAR, bootable=True, zone="mars")
        self.names["away"] = await self._make()
        self.cloud.run(self.names["away"])
        now = self.cloud.clock.now()
        self.cloud.cell1.db.run_sync(
            servers.update, self.names["away"], now=now, vm_state="shelved_offloaded", host=None
        )


def give(name: str, status: int, volume: str, words: str = "", **more: Any) -> Case:
    """POST os-volume_attachments."""
    to, version = more.pop("to", "sid"), more.pop("version", "2.60")
    path = f"/v2.1/servers/{{{to}}}/os-volume_attachments"
    given = {"volumeAttachment": {"volumeId": volume, **more}}
    return Case(name, path, status, given, version, words=words)


def existing(volume: str, **more: Any) -> dict[str, Any]:
    """A volume to start from."""
    return {"boot_index": 0, "uuid": volume, "source_type": "volume",
            "destination_type": "volume", **more}  # fmt: skip


SWAP = {**BLANK, "guest_format": "swap"}
STOCKED = [
    give("a volume that is used", 400, BUSY, "status must be 'available'"),
    give("a volume of many, too early", 400, SHARED, "2.60", version="2.59"),
    give("a volume of many for one that is away", 400, SHARED, "multiattach", to="away"),
    give("a tagged volume for one that is away", 400, PLAIN, "agged", to="away", tag="a"),
    give("a volume for one that is away, too early", 409, PLAIN, to="away", version="2.19"),
    give("an encrypted volume", 400, LOCKED_UP, "encrypted"),
    give("a volume elsewhere", 400, FAR, "availability_zone"),
    give("a volume that is not there", 404, NOBODY),
    give("a volume by no id", 400, "x"),
    give("a device that is none", 400, PLAIN, device="sofa"),
    give("a tag before its time", 400, PLAIN, tag="a", version="2.48"),
    give("an end before its time", 400, PLAIN, delete_on_termination=True, version="2.78"),
    devices("a root that is used", 400, existing(BUSY), imageRef=""),
    devices("a root that cannot start", 400, existing(PLAIN), imageRef="", words="not bootable"),
    devices("a root elsewhere", 400, existing(FAR), imageRef="", availability_zone="nova",
            words="availability zone"),
    devices("volumes of two zones", 400, existing(FAR), existing(PLAIN, boot_index=1),
            imageRef="", words="different availability zones"),
    devices("the same volume twice", 400, BOOT, existing(PLAIN, boot_index=-1),
            existing(PLAIN, boot_index=-1), words="more than once"),
    devices("a device type that is none", 400, {**BOOT, "device_type": "sofa"}),
    devices("the same device name twice", 400, {**BOOT, "device_name": "vda"},
            {**BLANK, "device_name": "vda"}, flavorRef="roomy"),
    devices("two swap disks", 400, BOOT, SWAP, SWAP, flavorRef="roomy"),
    devices("more swap than the flavor has", 400, BOOT, SWAP, flavorRef="roomy"),
    devices("more ephemeral than the flavor has", 400, BOOT, {**BLANK, "volume_size": 11},
            flavorRef="roomy"),
    devices("a source that is none", 400, {**BOOT, "source_type": "tape"}),
    devices("a destination that is none", 400, {**BOOT, "destination_type": "tape"}),
    devices("a volume on the host", 400, BOOT,
            {**existing(PLAIN, boot_index=-1), "destination_type": "local"}),
    devices("a volume of nothing", 400,
            {"boot_index": 0, "source_type": "volume", "destination_type": "volume"}, imageRef=""),
    devices("a disk's tag before its time", 400, {**BOOT, "tag": "a"}, version="2.31"),
    devices("a disk's tag with a slash", 400, {**BOOT, "tag": "a/b"}, version="2.42"),
    devices("a small volume for an image", 400,
            {**BOOT, "destination_type": "volume", "volume_size": 0}, imageRef=""),
    Case("another device of an attachment",
         "/v2.1/servers/{rooted}/os-volume_attachments/{volume}", 400,
         {"volumeAttachment": {"volumeId": VOLUME, "device": "/dev/vdz"}}, "2.85", method="PUT"),
    Case("a swap by a user", "/v2.1/servers/{rooted}/os-volume_attachments/{volume}", 403,
         {"volumeAttachment": {"volumeId": PLAIN}}, method="PUT"),
    Case("a swap for what is not there", "/v2.1/servers/{rooted}/os-volume_attachments/{volume}",
         400, {"volumeAttachment": {"volumeId": NOBODY}}, who="admin", method="PUT"),
    Case("a swap for itself", "/v2.1/servers/{rooted}/os-volume_attachments/{volume}",
         400, {"volumeAttachment": {"volumeId": VOLUME}}, who="admin", method="PUT"),
    Case("a swap of what it has not", f"/v2.1/servers/{{sid}}/os-volume_attachments/{PLAIN}",
         404, {"volumeAttachment": {"volumeId": BUSY}}, who="admin", method="PUT"),
    Case("detaching what it has not", f"/v2.1/servers/{{sid}}/os-volume_attachments/{PLAIN}",
         404, method="DELETE"),
]  # fmt: skip


@pytest.fixture(scope="module")
def stocked() -> Iterator[Stage]:
    """A stage with volumes."""
    made = Stocked()
    yield made
    made.cloud.close()


@pytest.mark.parametrize("case", STOCKED, ids=lambda case: case.name.replace(" ", "-"))
async def test_volumes(stocked: Stage, case: Case) -> None:
    await stocked.play(case)


# -- the rest --------------------------------------------------------------------------------------


def flavor(name: str, status: int, /, version: str = "2.1", **given: Any) -> Case:
    """POST /flavors."""
    values = {"name": "f", "ram": 64, "vcpus": 1, "disk": 0, **given}
    return Case(name, "/v2.1/flavors", status, {"flavor": values}, version, "admin")


def admin(name: str, method: str, path: str, status: int, given: Any = None, **more: Any) -> Case:
    """A request of an administrator."""
    return Case(name, f"/v2.1{path}", status, given, method=method, **{"who": "admin", **more})


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl a@b"


def pair(name: str, status: int, /, version: str = "2.1", **given: Any) -> Case:
    """POST a key pair."""
    return Case(name, "/v2.1/os-keypairs", status, {"keypair": {"name": "k", **given}}, version)


def aggregate(name: str, status: int, /, **given: Any) -> Case:
    """POST an aggregate."""
    return admin(name, "POST", "/os-aggregates", status, {"aggregate": given})


def event(name: str, status: int, /, version: str, **given: Any) -> Case:
    """POST an external event."""
    one = {"server_uuid": NOBODY, **given}
    path = "/v2.1/os-server-external-events"
    return Case(name, path, status, {"events": [one]}, version, "admin")


QUOTAS = f"/os-quota-sets/{PROJECT}"
RESOURCES = [
    flavor("a flavor without memory", 400, ram=0),
    flavor("a flavor without CPUs", 400, vcpus=0),
    flavor("a flavor with a negative disk", 400, disk=-1),
    flavor("a flavor with an odd id", 400, id="a/b"),
    flavor("a flavor with an id that is there", 409, id="1"),
    flavor("a flavor of no name", 400, name=" "),
    flavor("a described flavor, too early", 400, "2.54", description="d"),
    flavor("a flavor with too many words", 400, "2.55", description="d" * 65536),
    flavor("a flavor with a factor, too late", 400, "2.102", rxtx_factor=1.0),
    flavor("a flavor with a factor of nothing", 400, rxtx_factor=0),
    flavor("a flavor with unknown words", 400, colour="red"),
    get("flavors with an odd minimum", "/flavors?minRam=x", 400),
    get("flavors with an odd marker", "/flavors?marker=none", 400),
    get("flavors in no order", "/flavors?sort_key=colour", 400),
    get("flavors with unknown words", "/flavors?colour=red", 400, version="2.102"),
    get("a flavor that is not there", "/flavors/none", 404),
    get("an extra spec that is not there", "/flavors/1/os-extra_specs/none", 404),
    admin("removing an extra spec that is not there", "DELETE",
          "/flavors/1/os-extra_specs/none", 404),
    admin("a flavor described too early", "PUT", "/flavors/1", 404,
          {"flavor": {"description": "d"}}, version="2.54"),
    admin("taking access nobody has", "POST", "/flavors/mine/action", 404,
          {"removeTenantAccess": {"tenant": PROJECT}}),
    admin("a flavor that is not there to remove", "DELETE", "/flavors/none", 404),
    pair("a key that is made, too late", 400, "2.92"),
    pair("a key with an odd name", 400, "2.91", name="a@b"),
    pair("a certificate's key, too early", 400, type="x509"),
    pair("a key of no type", 400, "2.2", type="gpg"),
    pair("somebody else's key", 403, "2.10", user_id="other", public_key=KEY),
    pair("somebody else's key, too early", 400, "2.9", user_id="other", public_key=KEY),
    pair("a key without a name", 400, name=""),
    get("key pairs after nothing", "/os-keypairs?marker=none", 400, version="2.35"),
    Case("a key pair that is not there to remove", "/v2.1/os-keypairs/none", 404, method="DELETE"),
    aggregate("an aggregate that is there", 409, name="a1"),
    aggregate("an aggregate of an odd zone", 400, name="x", availability_zone="a:b"),
    aggregate("an aggregate without a name", 400, availability_zone="z"),
    admin("an aggregate that is not there", "GET", "/os-aggregates/77", 404),
    admin("an aggregate by a word", "GET", "/os-aggregates/x", 400),
    admin("another aggregate's name", "PUT", "/os-aggregates/2", 409,
          {"aggregate": {"name": "a1"}}),
    admin("a host it has already", "POST", "/os-aggregates/1/action", 409,
          {"add_host": {"host": "h1"}}),
    admin("a host it has not", "POST", "/os-aggregates/2/action", 404,
          {"remove_host": {"host": "h1"}}),
    admin("images too early", "POST", "/os-aggregates/1/images", 404,
          {"cache": [{"id": IMAGE}]}, version="2.80"),
    admin("no images", "POST", "/os-aggregates/1/images", 400, {"cache": []}, version="2.81"),
    admin("an image twice", "POST", "/os-aggregates/1/images", 400,
          {"cache": [{"id": IMAGE}, {"id": IMAGE}]}, version="2.81"),
    admin("a service that is not there", "PUT", f"/os-services/{NOBODY}", 404,
          {"status": "enabled"}, version="2.53"),
    admin("a service by a number, too late", "PUT", "/os-services/1", 400,
          {"status": "enabled"}, version="2.53"),
    admin("a reason to be enabled", "PUT", "/os-services/44444444-0000-4000-8000-000000000001",
          400, {"status": "enabled", "disabled_reason": "r"}, version="2.53"),
    admin("nothing to change", "PUT", "/os-services/44444444-0000-4000-8000-000000000001",
          400, {}, version="2.53"),
    admin("a conductor to switch off", "PUT", "/os-services/44444444-0000-4000-8000-000000000002",
          400, {"status": "disabled"}, version="2.53"),
    admin("a service of no host", "PUT", "/os-services/enable", 404,
          {"host": "none", "binary": "nova-compute"}),
    admin("a reason that is missing", "PUT", "/os-services/disable-log-reason", 400,
          {"host": "h1", "binary": "nova-compute"}),
    admin("forced down too early", "PUT", "/os-services/force-down", 400,
          {"host": "h1", "binary": "nova-compute", "forced_down": True}, version="2.10"),
    admin("a hypervisor that is not there", "GET", "/os-hypervisors/77", 404),
    admin("a hypervisor by a number, too late", "GET", "/os-hypervisors/1", 400, version="2.53"),
    admin("hypervisors of no name", "GET", "/os-hypervisors?hypervisor_hostname_pattern=x", 404,
          version="2.53"),
    admin("pages of a pattern", "GET",
          "/os-hypervisors?hypervisor_hostname_pattern=n&limit=1", 400, version="2.53"),
    admin("hypervisors after nothing", "GET", f"/os-hypervisors?marker={NOBODY}", 400,
          version="2.53"),
    admin("sums too late", "GET", "/os-hypervisors/statistics", 404, version="2.88"),
    get("hypervisors for a user", "/os-hypervisors", 403),
    get("use of an odd time", "/os-simple-tenant-usage/x?start=yesterday", 400, who="admin"),
    get("use that ends before it begins",
        f"/os-simple-tenant-usage/{PROJECT}?start=2026-01-02T00:00:00&end=2026-01-01T00:00:00",
        400),
    get("use of another project", f"/os-simple-tenant-usage/{OTHER}", 403),
    get("use after nothing", f"/os-simple-tenant-usage/{PROJECT}?marker={NOBODY}", 400,
        version="2.40"),
    get("an audit of no time", "/os-instance_usage_audit_log/soon", 400, who="admin"),
    admin("a user's quota beyond the project's", "PUT", f"{QUOTAS}?user_id=fake", 400,
          {"quota_set": {"cores": 1000}}),
    admin("a quota below nothing", "PUT", QUOTAS, 400, {"quota_set": {"cores": -2}}),
    admin("a quota of networks, too late", "PUT", QUOTAS, 400,
          {"quota_set": {"floating_ips": 1}}, version="2.36"),
    admin("a quota of files, too late", "PUT", QUOTAS, 400,
          {"quota_set": {"injected_files": 1}}, version="2.57"),
    admin("a class of an odd quota", "PUT", "/os-quota-class-sets/default", 400,
          {"quota_class_set": {"colour": 1}}),
    get("another project's quota", f"/os-quota-sets/{OTHER}", 403),
    get("another project's limits", f"/limits?tenant_id={OTHER}", 403),
    Case("a group without a policy", "/v2.1/os-server-groups", 400,
         {"server_group": {"name": "g"}}),
    Case("a group of two policies", "/v2.1/os-server-groups", 400,
         {"server_group": {"name": "g", "policies": ["affinity", "anti-affinity"]}}),
    Case("rules of the wrong policy", "/v2.1/os-server-groups", 400,
         {"server_group": {"name": "g", "policy": "affinity",
                           "rules": {"max_server_per_host": 1}}}, "2.64"),
    Case("rules too early", "/v2.1/os-server-groups", 400,
         {"server_group": {"name": "g", "policies": ["anti-affinity"],
                           "rules": {"max_server_per_host": 1}}}, "2.63"),
    get("a group that is not there", f"/os-server-groups/{NOBODY}", 404),
    get("shares too early", "/servers/{sid}/shares", 404, version="2.96"),
    Case("a share of what runs", "/v2.1/servers/{sid}/shares", 409,
         {"share": {"share_id": NOBODY}}, "2.97"),
    Case("a share on a host that cannot", "/v2.1/servers/{off}/shares", 409,
         {"share": {"share_id": NOBODY}}, "2.97", words="virtio-fs"),
    get("a share it has not", f"/servers/{{off}}/shares/{NOBODY}", 404, version="2.97"),
    Case("a share by no id", "/v2.1/servers/{off}/shares", 400, {"share": {"share_id": "x"}},
         "2.97"),
    get("a topology too early", "/servers/{sid}/topology", 404, version="2.77"),
    get("addresses of no network", "/servers/{sid}/ips/none", 404),
    get("metadata that is not there", "/servers/{sid}/metadata/none", 404),
    Case("metadata under another name", "/v2.1/servers/{sid}/metadata/a", 400,
         {"meta": {"b": "c"}}, method="PUT"),
    Case("a tag that is too long", "/v2.1/servers/{sid}/tags/" + "t" * 61, 400, version="2.26",
         method="PUT"),
    Case("a tag with a slash", "/v2.1/servers/{sid}/tags", 400, {"tags": ["a/b"]}, "2.26",
         method="PUT"),
    act("aborting nothing", 400, version="2.22", who="admin", force_complete=None),
    admin("finishing no move", "POST", "/servers/{sid}/migrations/1/action", 409,
          {"force_complete": None}, version="2.22"),
    admin("a move it has not", "GET", "/servers/{sid}/migrations/1", 404, version="2.23"),
    admin("moves of an odd status, too late", "GET", "/os-migrations?colour=red", 400,
          version="2.75"),
    admin("moves in the wrong order", "GET",
          "/os-migrations?changes-since=2026-02-01T00:00:00Z&changes-before=2026-01-01T00:00:00Z",
          400, version="2.66"),
    admin("moves after nothing", "GET", f"/os-migrations?marker={NOBODY}", 400, version="2.59"),
    get("moves for a reader", "/os-migrations", 403, who="reader"),
    get("actions of a foreign server", "/servers/{sid}/os-instance-actions", 404, who="other"),
    event("a larger volume too early", 400, "2.50", name="volume-extended", tag=VOLUME),
    event("power too early", 400, "2.75", name="power-update", tag="POWER_ON"),
    event("a device too early", 400, "2.81", name="accelerator-request-bound", tag="x"),
    event("a new image too early", 400, "2.92", name="volume-reimaged", tag=VOLUME),
    event("an odd status", 400, "2.1", name="network-changed", status="odd"),
    Case("a console's token by a user", f"/v2.1/os-console-auth-tokens/{NOBODY}", 403,
         method="GET", version="2.31"),
    admin("a console's token that is not there", "GET", f"/os-console-auth-tokens/{NOBODY}", 404,
          version="2.31"),
    get("availability zones in detail for a user", "/os-availability-zone/detail", 403),
    create("an odd availability zone", 400, availability_zone="a:b:c:d", who="admin"),
    create("a hostname before its time", 400, version="2.89", hostname="a"),
    create("a long hostname", 400, version="2.90", hostname="a" * 64),
    create("a whole name, too early", 400, version="2.93", hostname="a.example.org"),
    create("two of one address", 400, version="2.94", hostname="a.b", max_count=2),
    create("a description too early", 400, version="2.18", description="d"),
    create("too many tags", 400, version="2.52", tags=[f"t{n}" for n in range(51)]),
    create("no servers", 400, min_count=0),
    Case("hints of an odd group", "/v2.1/servers", 400,
         {**body(), "OS-SCH-HNT:scheduler_hints": {"group": "x"}}),
    create("an odd config drive", 400, config_drive="perhaps"),
    create("an odd address", 400, accessIPv4="a.b"),
    create("an odd disk config", 400, **{"OS-DCF:diskConfig": "SOME"}),
    create("too many files", 403, personality=[{"path": f"/{n}", "contents": ""}
                                               for n in range(6)]),
    create("a file that is too long", 403, personality=[{"path": "/a", "contents": "QUFB" * 4000}]),
    create("a file of odd contents", 400, personality=[{"path": "/a", "contents": "Q"}]),
    create("too much for the quota", 403, "Quota exceeded", flavorRef="1", min_count=21,
           max_count=21),
    Case("a zone that is not its own", "/v2.1/servers/{sid}", 409,
         {"server": {"pinned_availability_zone": "mars"}}, "2.104", method="PUT"),
    Case("a zone too early", "/v2.1/servers/{sid}", 400,
         {"server": {"pinned_availability_zone": None}}, "2.103", method="PUT"),
    Case("a server of no name", "/v2.1/servers/{sid}", 400, {"server": {"name": ""}},
         method="PUT"),
]  # fmt: skip


@pytest.mark.parametrize("case", RESOURCES, ids=lambda case: case.name.replace(" ", "-"))
async def test_resources(stage: Stage, case: Case) -> None:
    await stage.play(case)


@pytest.mark.parametrize(
    ("scope", "who", "status"),
    [("", "member", 202), ("project", "member", 409), ("project", "other", 202),
     ("global", "other", 409)],
)  # fmt: skip
async def test_names_that_must_be_unique(scope: str, who: str, status: int) -> None:
    plain = Settings()
    default = msgspec.structs.replace(plain.default, osapi_compute_unique_server_name_scope=scope)
    cloud = Cloud(msgspec.structs.replace(plain, default=default))
    try:
        for place in ("waiting", "placed"):
            made = await cloud.client(version="2.37").post(
                "/v2.1/servers", json=body(name=place, networks="none")
            )
            assert made.status == 202, made.text
            if place == "placed":
                cloud.run(made.json()["server"]["id"])
            answer = await cloud.client(who, "2.37").post(
                "/v2.1/servers", json=body(name=place.upper(), networks="none")
            )
            assert answer.status == status, answer.text
    finally:
        cloud.close()
