"""What a new cloud begins with: flavors, a public network, an image; all through the APIs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilonova.embedded import guestimage
from kilonova.embedded.network.open import ensure_public
from kilonova.services.lifecycle import CannotStart
from kilonova.web.client import Answer

if TYPE_CHECKING:
    from kilonova.services.all_in_one import Cloud

# name, id, vCPUs, memory MiB, disk GiB: the classic sizes, and one for tiny guests
FLAVORS = (
    ("m1.nano", "42", 1, 192, 1),
    ("m1.tiny", "1", 1, 512, 1),
    ("m1.small", "2", 1, 2048, 20),
    ("m1.medium", "3", 2, 4096, 40),
    ("m1.large", "4", 4, 8192, 80),
    ("m1.xlarge", "5", 8, 16384, 160),
)
IMAGE = "tiny"
PUBLIC = "public"
FAKE_IMAGE_BYTES = 1 << 20
CHUNK = 1 << 20


async def make(cloud: Cloud) -> None:
    """Make what is missing; a second start finds everything."""
    admin = await Admin.login(cloud)
    cloud.tell.step("flavors")
    await _flavors(admin)
    if not cloud.wanted.demo:
        return
    cloud.tell.step("public network")
    await _public(cloud, admin)
    await _image(cloud, admin)


class Admin:
    """Requests to the cloud's own services as its administrator."""

    def __init__(self, cloud: Cloud, token: str, project_id: str) -> None:
        self._cloud = cloud
        self._token = token
        self.project_id = project_id

    @classmethod
    async def login(cls, cloud: Cloud) -> Admin:
        """A token of the user admin on the project admin."""
        domain = {"name": "Default"}
        user = {"name": "admin", "password": cloud.secrets.admin_password, "domain": domain}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": "admin", "domain": domain}},
            }
        }
        url = cloud.layout.url("identity", "/v3/auth/tokens")
        answer = await cloud.http.request("POST", url, json=body)
        if answer.status != 201:
            raise CannotStart(f"The identity service refused the administrator: {answer.text}")
        project = answer.json()["token"]["project"]["id"]
        return cls(cloud, answer.headers["x-subject-token"], project)

    async def ask(
        self,
        method: str,
        service: str,
        path: str,
        *,
        json: Any = None,
        data: AsyncIterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
        accept: tuple[int, ...] = (200, 201, 202, 204),
    ) -> Answer:
        """One request; CannotStart for another status than ``accept``."""
        sent = {"X-Auth-Token": self._token, **(headers or {})}
        answer = await self._cloud.http.request(
            method,
            self._cloud.layout.url(service, path),
            json=json,
            data=data,
            headers=sent,
            timeout=600,
        )
        if answer.status not in accept:
            raise CannotStart(f"{method} {path} answered {answer.status}: {answer.text[:300]}")
        return answer


async def _flavors(admin: Admin) -> None:
    present = (await admin.ask("GET", "compute", "/v2.1/flavors")).json()["flavors"]
    known = {flavor["name"] for flavor in present}
    for name, number, vcpus, memory, disk in FLAVORS:
        if name not in known:
            flavor = {"name": name, "id": number, "vcpus": vcpus, "ram": memory, "disk": disk}
            await admin.ask(
                "POST",
                "compute",
                "/v2.1/flavors",
                json={"flavor": flavor},
                accept=(200, 409),
            )


async def _public(cloud: Cloud, admin: Admin) -> None:
    assert cloud.network is not None
    await ensure_public(cloud.network, project_id=admin.project_id, name=PUBLIC)


async def _image(cloud: Cloud, admin: Admin) -> None:
    found = await admin.ask("GET", "image", f"/v2/images?name={IMAGE}&visibility=public")
    present = {image["status"]: image["id"] for image in found.json()["images"]}
    if "active" in present:
        return
    wanted: dict[str, Any] = {
        "name": IMAGE,
        "visibility": "public",
        "container_format": "bare",
        "disk_format": "qcow2",
    }
    if cloud.machine.driver == "fake":
        wanted["disk_format"] = "raw"
        data = _zeros()
    else:
        made = await _build(cloud)
        wanted |= {"min_ram": made.min_ram, "min_disk": made.min_disk, **made.properties}
        data = _chunks(made.path)
    cloud.tell.step("storing the image")
    image_id = present.get("queued")
    if image_id is None:
        answer = await admin.ask("POST", "image", "/v2/images", json=wanted)
        image_id = answer.json()["id"]
    await admin.ask(
        "PUT",
        "image",
        f"/v2/images/{image_id}/file",
        data=data,
        headers={"Content-Type": "application/octet-stream"},
    )


async def _build(cloud: Cloud) -> guestimage.GuestImage:
    cache = Path.home() / ".cache" / "kilonova"
    try:
        return await guestimage.build(
            cloud.layout.state_dir / f"{IMAGE}.qcow2",
            cache_dir=cache,
            progress=lambda text, share: cloud.tell.step(f"building the image: {text}", share),
        )
    except guestimage.GuestImageError as error:
        raise CannotStart(
            f"The demo image could not be built: {error} (or use --no-demo)"
        ) from None


async def _zeros() -> AsyncIterator[bytes]:
    yield bytes(FAKE_IMAGE_BYTES)


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as source:
        while chunk := source.read(CHUNK):
            yield chunk
