"""An image service in process, callers for it, and disk images of all kinds."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from kilonova.embedded.image import service
from kilonova.embedded.image.app import Images
from kilonova.embedded.image.settings import Settings
from kilonova.web.auth import StaticAuthenticator
from kilonova.web.call import Caller
from kilonova.web.client import Answer
from kilonova.web.testing import Client
from tests.support.truth import truthful

OCTETS = {"Content-Type": "application/octet-stream"}
PATCH = "application/openstack-images-v2.1-json-patch"


def caller(name: str, project: str, *roles: str) -> Caller:
    """A user of a project with these roles."""
    return Caller(user_id=name, user_name=name, project_id=project, roles=roles)


CALLERS = {
    "admin": caller("admin", "p-admin", "admin", "manager", "member", "reader"),
    "alice": caller("alice", "p-alice", "member", "reader"),
    "bob": caller("bob", "p-bob", "member", "reader"),
    "reader": caller("reader", "p-alice", "reader"),
}


class Place:
    """An open image service and its callers."""

    def __init__(self, images: Images) -> None:
        self.images = images
        built = service.build(images, auth=StaticAuthenticator(CALLERS))
        self.app: ASGIApp = truthful(built, service.API)
        self.anonymous = Client(self.app)
        self.admin = self.anonymous.with_(token="admin")
        self.alice = self.anonymous.with_(token="alice")
        self.bob = self.anonymous.with_(token="bob")
        self.reader = self.anonymous.with_(token="reader")


async def start(directory: Path, *, url: str | None = None, **more: Any) -> Place:
    """Open an image service in ``directory``."""
    database = url or f"sqlite:///{directory}/image.db"
    settings = Settings(database=database, directory=directory / "images", reserve_bytes=0, **more)
    return Place(await service.open(settings))


async def make(client: Client, **given: Any) -> dict[str, Any]:
    """Create an image (raw, bare if not said otherwise)."""
    body = {"name": "i", "disk_format": "raw", "container_format": "bare", **given}
    answer = await client.post("/v2/images", json=body)
    assert answer.status == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def put(client: Client, image_id: str, data: Any, **headers: str) -> Answer:
    """Upload data."""
    sent = {**OCTETS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await client.put(f"/v2/images/{image_id}/file", data=data, headers=sent)


async def change(client: Client, image_id: str, *operations: dict[str, Any]) -> Answer:
    """PATCH an image."""
    import msgspec

    raw = msgspec.json.encode(operations)
    return await client.patch(f"/v2/images/{image_id}", data=raw, headers={"Content-Type": PATCH})


def qemu_image(directory: Path, disk_format: str, *options: str, size: str = "16M") -> bytes:
    """The bytes of an empty image made by qemu-img."""
    file = directory / f"made.{disk_format}"
    argv = ["qemu-img", "create", "-q", "-f", disk_format, *options, str(file), size]
    subprocess.run(argv, check=True, cwd=directory)
    data = file.read_bytes()
    file.unlink()
    return data


def gpt_disk() -> bytes:
    """A disk with a protective MBR, as partition tools write it."""
    entry = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, 2047)
    return b"\0" * 446 + entry + b"\0" * 48 + b"\x55\xaa" + b"\0" * (1024 * 1024 - 512)
