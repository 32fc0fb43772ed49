"""The ordinary clients against the image service over a socket, tokens of the identity service."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openstack
import pytest

from kilonova.embedded.image import service
from kilonova.embedded.image.settings import Settings
from kilonova.web.auth import CachingAuthenticator, KeystoneAuthenticator
from kilonova.web.client import HttpClient
from tests.support import identity, serving
from tests.support.image import qemu_image

pytestmark = [
    pytest.mark.live,
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

OPENSTACK = str(Path(sys.executable).with_name("openstack"))


class Cloud:
    """Identity and image services on ports, and the clients as users of them."""

    def __init__(self, auth_url: str) -> None:
        self.auth_url = auth_url

    def env(self, user: str) -> dict[str, str]:
        """What a user's openrc would set; the project is named like the user."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "OS_AUTH_URL": self.auth_url,
            "OS_USERNAME": user,
            "OS_PASSWORD": identity.PASSWORD,
            "OS_PROJECT_NAME": user,
            "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default",
            "OS_REGION_NAME": "RegionOne",
        }

    async def quiet(self, user: str, *words: str) -> str:
        """``openstack WORDS``; its output."""
        code, out, err = await serving.run(OPENSTACK, *words, env=self.env(user))
        assert code == 0, f"{words}: {out}{err}"
        return out

    async def cli(self, user: str, *words: str) -> Any:
        """The same with ``-f json``, read."""
        return json.loads(await self.quiet(user, *words, "-f", "json"))

    def connection(self, user: str) -> openstack.connection.Connection:
        """An openstacksdk connection."""
        return openstack.connect(
            load_yaml_config=False,
            load_envvars=False,
            auth_url=self.auth_url,
            username=user,
            password=identity.PASSWORD,
            project_name=user,
            user_domain_id="default",
            project_domain_id="default",
            region_name="RegionOne",
        )


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    doors = serving.listening_socket(), serving.listening_socket()
    origin = serving.origin(doors[0])
    catalog = [
        ("identity", "keystone", f"{origin}/v3"),
        ("image", "glance", serving.origin(doors[1])),
    ]
    place = await identity.start(tmp_path, endpoints=catalog)
    images = await service.open(
        Settings(
            database=f"sqlite:///{tmp_path}/image.db",
            directory=tmp_path / "images",
            reserve_bytes=0,
        )
    )
    http = HttpClient(loopback={origin: place.app})
    auth = CachingAuthenticator(KeystoneAuthenticator(http, origin), images.clock, 60)
    app = service.build(images, auth=auth)
    async with serving.served(place.app, doors[0]), serving.served(app, doors[1]):
        yield Cloud(f"{origin}/v3")
    await http.close()
    images.close()
    place.identity.close()


async def test_command_line(cloud: Cloud, tmp_path: Path) -> None:
    file = tmp_path / "disk.qcow2"
    file.write_bytes(qemu_image(tmp_path, "qcow2"))
    made = await cloud.cli(
        "demo", "image", "create", "--file", str(file), "--disk-format", "qcow2",
        "--container-format", "bare", "--property", "hw_disk_bus=scsi", "--tag", "t", "disk",
    )  # fmt: skip
    assert made["status"] == "active"
    assert made["checksum"] == hashlib.md5(file.read_bytes()).hexdigest()
    saved = tmp_path / "saved"
    await cloud.quiet("demo", "image", "save", "--file", str(saved), "disk")
    assert saved.read_bytes() == file.read_bytes()
    listed = await cloud.cli("demo", "image", "list", "--long", "--property", "hw_disk_bus=scsi")
    assert [row["Name"] for row in listed] == ["disk"]
    await cloud.quiet(
        "demo", "image", "set", "--min-disk", "1", "--property", "os_distro=debian",
        "--protected", "disk",
    )  # fmt: skip
    shown = await cloud.cli("demo", "image", "show", "disk")
    assert (shown["min_disk"], shown["protected"]) == (1, True)
    assert shown["properties"]["os_distro"] == "debian"
    assert shown["virtual_size"] == 16 * 1024 * 1024
    await cloud.quiet("demo", "image", "unset", "--property", "os_distro", "--tag", "t", "disk")
    await cloud.quiet("demo", "image", "set", "--unprotected", "disk")
    shown = await cloud.cli("demo", "image", "show", "disk")
    assert "os_distro" not in shown["properties"]
    assert shown["tags"] == []
    await cloud.quiet("demo", "image", "delete", "disk")
    assert await cloud.cli("demo", "image", "list") == []


async def test_command_line_shares(cloud: Cloud) -> None:
    made = await cloud.cli("demo", "image", "create", "--shared", "offer")
    admin = await cloud.cli("admin", "project", "show", "admin")
    await cloud.quiet("demo", "image", "add", "project", made["id"], admin["id"])
    await cloud.quiet("admin", "image", "set", "--accept", "--project", admin["id"], made["id"])
    members = await cloud.cli("demo", "image", "member", "list", made["id"])
    assert [row["Status"] for row in members] == ["accepted"]
    await cloud.quiet("demo", "image", "remove", "project", made["id"], admin["id"])
    await cloud.quiet("demo", "image", "delete", made["id"])


# openstacksdk leaves the file it uploads open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_sdk(cloud: Cloud, tmp_path: Path) -> None:
    data = os.urandom(2 * 1024 * 1024 + 3)
    file = tmp_path / "data"
    file.write_bytes(data)

    def use() -> None:
        with cloud.connection("demo") as connection:
            image = connection.create_image(
                "random", filename=str(file), disk_format="raw", container_format="bare",
                wait=True, timeout=30,
            )  # fmt: skip
            assert image.status == "active"
            answer = connection.image.download_image(image.id)
            assert answer.content == data
            assert image.hash_value == hashlib.sha512(data).hexdigest()
            found = [one.name for one in connection.image.images(limit=1)]
            assert found == ["random"]
            connection.image.update_image(image.id, colour="blue", min_ram=64)
            assert connection.image.get_image(image.id).properties["colour"] == "blue"
            staged = connection.image.create_image(
                name="staged", data=data, disk_format="raw", container_format="bare",
                use_import=True,
            )  # fmt: skip
            assert connection.image.get_image(staged.id).status == "active"
            with connection.image.download_image(staged.id, stream=True) as stream:
                assert b"".join(stream.iter_content(65536)) == data
            for one in (image, staged):
                connection.image.delete_image(one.id)
            assert list(connection.image.images()) == []

    await asyncio.to_thread(use)
