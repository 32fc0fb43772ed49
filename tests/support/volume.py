"""A block storage service in process, callers for it, and an image service of dictionaries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from kilonova.base.errors import NotFound
from kilonova.embedded.volume import service
from kilonova.embedded.volume.app import Volumes
from kilonova.embedded.volume.settings import Settings
from kilonova.web.auth import StaticAuthenticator
from kilonova.web.call import Caller
from kilonova.web.client import Answer
from kilonova.web.testing import Client
from tests.support.truth import truthful


def caller(name: str, project: str, *roles: str) -> Caller:
    """A user of a project with these roles."""
    return Caller(user_id=name, user_name=name, project_id=project, roles=roles, token=name)


CALLERS = {
    "admin": caller("admin", "p-admin", "admin", "member", "reader"),
    "alice": caller("alice", "p-alice", "member", "reader"),
    "bob": caller("bob", "p-bob", "member", "reader"),
    "reader": caller("reader", "p-alice", "reader"),
    "nova": caller("nova", "p-service", "admin", "service"),
}


class DictImages:
    """Images in memory."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.data: dict[str, bytes] = {}

    def add(self, image_id: str, data: bytes, **more: Any) -> str:
        """An active image."""
        self.documents[image_id] = {
            "id": image_id,
            "name": "picture",
            "status": "active",
            "disk_format": "raw",
            "container_format": "bare",
            "size": len(data),
            "min_disk": 0,
            **more,
        }
        self.data[image_id] = data
        return image_id

    async def show(self, image_id: str, _token: str) -> dict[str, Any]:
        if image_id not in self.documents:
            raise NotFound(f"Image {image_id} could not be found.")
        return self.documents[image_id]

    async def download(self, image_id: str) -> AsyncIterator[bytes]:
        data = self.data[image_id]
        for start in range(0, len(data), 1 << 16):
            yield data[start : start + (1 << 16)]

    async def create(self, document: dict[str, Any], _token: str) -> dict[str, Any]:
        made = {"id": f"image-{len(self.documents)}", "status": "queued", **document}
        self.documents[made["id"]] = made
        return made

    async def upload(self, image_id: str, data: AsyncIterator[bytes]) -> None:
        self.data[image_id] = b"".join([piece async for piece in data])
        self.documents[image_id]["status"] = "active"

    async def delete(self, image_id: str) -> None:
        self.documents.pop(image_id, None)


class Place:
    """An open block storage service and its callers, at the newest microversion."""

    def __init__(self, volumes: Volumes, images: DictImages, told: list[dict[str, Any]]) -> None:
        self.volumes = volumes
        self.images = images
        self.told = told
        built = service.build(volumes, auth=StaticAuthenticator(CALLERS))
        self.app: ASGIApp = truthful(built, service.API)
        self.anonymous = Client(self.app, service="volume")
        self.admin = self.at("admin")
        self.alice = self.at("alice")
        self.bob = self.at("bob")
        self.reader = self.at("reader")

    def at(self, who: str, version: str = "3.71") -> Client:
        """A caller at a microversion."""
        return self.anonymous.with_(token=who, version=version)

    async def done(self) -> None:
        """Wait until all copies are made."""
        await self.volumes.worker.idle()

    async def make(self, client: Client, **given: Any) -> dict[str, Any]:
        """A volume that is ready (1 GiB if not said otherwise)."""
        made: dict[str, Any] = good(
            await client.post("/v3/volumes", json={"volume": {"size": 1, **given}}), 202
        )["volume"]
        await self.done()
        shown: dict[str, Any] = good(await client.get(f"/v3/volumes/{made['id']}"))["volume"]
        return shown


async def start(
    directory: Path, *, url: str | None = None, images: DictImages | None = None, **more: Any
) -> Place:
    """Open a service in ``directory``."""
    told: list[dict[str, Any]] = []

    async def notify(events: list[dict[str, Any]]) -> None:
        told.extend(events)

    settings = Settings(
        database=url or f"sqlite:///{directory}/volume.db",
        directory=directory / "volumes",
        reserve_bytes=0,
        **more,
    )
    pictures = images or DictImages()
    return Place(await service.open(settings, images=pictures, notify=notify), pictures, told)


def good(answer: Answer, status: int = 200) -> Any:
    """The JSON of an answer that has to be good."""
    assert answer.status == status, (answer.status, answer.text)
    return answer.json() if answer.body else None
