"""Guest specs, image sources and plugs for tests of drivers and agents."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from kilonova.base.errors import NotFound
from kilonova.domain.guest import (
    Disk,
    FlavorSpec,
    GuestMetadata,
    GuestSpec,
    GuestStatus,
    ImageRef,
    Nic,
)

SERVER = "5f2a9b1c-0000-4000-8000-000000000001"


def flavor(**changes: Any) -> FlavorSpec:
    """A tiny flavor."""
    made = FlavorSpec(id=1, flavorid="1", name="m1.tiny", vcpus=1, memory_mb=64, root_gb=0)
    return msgspec.structs.replace(made, **changes)


def spec(server_id: str = SERVER, **changes: Any) -> GuestSpec:
    """A guest with one blank root disk and no network card."""
    made = GuestSpec(
        server_id=server_id,
        name=f"instance-{server_id[-8:]}",
        flavor=flavor(),
        image=None,
        disks=(
            Disk(id="root", role="root", source="blank", device="vda", size_mb=16, boot_index=0),
        ),
        nics=(),
        metadata=GuestMetadata(
            server_id=server_id, project_id="p", user_id="u", name="one", hostname="one"
        ),
    )
    return msgspec.structs.replace(made, **changes)


def booting(image: ImageRef, server_id: str = SERVER, **changes: Any) -> GuestSpec:
    """A guest that boots an image."""
    root = Disk(
        id="root",
        role="root",
        source="image",
        device="vda",
        image=image,
        boot_index=0,
        bus="virtio",
    )
    return spec(server_id, image=image, disks=(root,), **changes)


def image_of(file: Path, image_id: str, disk_format: str = "qcow2", **changes: Any) -> ImageRef:
    """The image service's words on a file."""
    data = file.read_bytes()
    made = ImageRef(
        id=image_id,
        disk_format=disk_format,
        size=len(data),
        os_hash_algo="sha512",
        os_hash_value=hashlib.sha512(data).hexdigest(),
    )
    return msgspec.structs.replace(made, **changes)


class Files:
    """An ImageSource over files; counts downloads."""

    def __init__(self, **files: Path) -> None:
        self.files = dict(files)
        self.downloads = 0

    async def download(self, image: ImageRef) -> AsyncIterator[bytes]:
        if image.id not in self.files:
            raise NotFound(f"Image {image.id} could not be found.")
        self.downloads += 1
        with self.files[image.id].open("rb") as file:
            while chunk := file.read(1 << 20):
                yield chunk


class Sink:
    """An ImageSink in memory: image id → disk format and data."""

    def __init__(self) -> None:
        self.images: dict[str, tuple[str, bytes]] = {}

    async def upload(
        self, image_id: str, disk_format: str, data: Callable[[], AsyncIterator[bytes]]
    ) -> None:
        if image_id not in self.images:
            self.images[image_id] = disk_format, b"".join([piece async for piece in data()])


class Plugs:
    """A VifPlugger that only remembers."""

    def __init__(self) -> None:
        self.plugged: list[str] = []

    async def plug(self, nic: Nic) -> None:
        if nic.port_id not in self.plugged:
            self.plugged.append(nic.port_id)

    async def unplug(self, nic: Nic) -> None:
        if nic.port_id in self.plugged:
            self.plugged.remove(nic.port_id)


class Events:
    """A listener that remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[GuestStatus] = []

    async def __call__(self, status: GuestStatus) -> None:
        self.heard.append(status)
