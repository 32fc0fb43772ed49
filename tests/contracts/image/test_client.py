"""What compute may expect of a service it makes images in: the one in memory, and Glance's API."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kilonova.base.errors import Conflict, Forbidden, NotFound
from kilonova.clients.glance import Glance
from kilonova.clients.keystone import Endpoint
from kilonova.domain.imaging import NewImage
from kilonova.interfaces.image import ImageMaker
from kilonova.web.client import HttpClient
from tests.support.image import start
from tests.support.images import Images

ORIGIN = "http://images.test"
OWNER = "p-alice"
TOKEN = "alice"


class Token:
    """A token source with the administrator's."""

    async def token(self) -> str:
        return "admin"

    async def endpoint(self, service_type: str, *, interface: str, region: str | None) -> str:
        return ORIGIN

    def forget(self) -> None:
        """Nothing to forget."""


@pytest.fixture(params=["memory", "glance"])
async def maker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ImageMaker]:
    if request.param == "memory":
        yield Images()
        return
    place = await start(tmp_path)
    async with HttpClient(loopback={ORIGIN: place.app}) as http:
        yield Glance(http, Endpoint(http, Token(), "image"))
    place.images.close()


def wanted(**more: Any) -> NewImage:
    return NewImage(str(uuid.uuid4()), "mine", properties={"image_type": "snapshot"}, **more)


async def data(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_an_image_is_made_and_filled(maker: ImageMaker) -> None:
    new = wanted(owner=OWNER, min_disk=2, min_ram=64)
    made = await maker.create(new, token=None)
    again = await maker.create(new, token=None)
    assert made.id == again.id == new.id
    assert (made.status, made.owner, made.visibility) == ("queued", OWNER, "private")
    assert (made.min_disk, made.min_ram) == (2, 64)
    await maker.describe(new.id, {"disk_format": "raw", "container_format": "bare", "more": "x"})
    await maker.upload(new.id, data(b"one", b"two"))
    shown = await maker.show(new.id, token=TOKEN)
    assert (shown.status, shown.size, shown.disk_format) == ("active", 6, "raw")
    assert shown.properties["image_type"] == "snapshot"
    assert shown.properties["more"] == "x"
    assert b"".join([piece async for piece in maker.download(new.id)]) == b"onetwo"
    with pytest.raises(Conflict):
        await maker.upload(new.id, data(b"three"))
    assert new.id in await maker.url_of(new.id)


async def test_an_image_of_properties_alone(maker: ImageMaker) -> None:
    new = wanted()
    await maker.create(new, token=TOKEN)
    formats = {"disk_format": "qcow2", "container_format": "bare"}
    await maker.describe(new.id, formats, token=TOKEN)
    await maker.upload(new.id, data(), token=TOKEN)
    assert (await maker.show(new.id, token=TOKEN)).status == "active"


async def test_images_are_found_newest_first(maker: ImageMaker) -> None:
    news = [wanted(owner=OWNER) for _ in range(3)]
    for new in news:
        await maker.create(new, token=None)
    await maker.create(NewImage(str(uuid.uuid4()), "other", owner=OWNER), token=None)
    found = await maker.find(owner=OWNER, image_type="snapshot")
    assert {image.id for image in found} == {new.id for new in news}
    assert [image.created_at for image in found] == sorted(
        (image.created_at for image in found), reverse=True
    )
    assert await maker.find(owner="p-bob", image_type="snapshot") == []


async def test_what_is_gone(maker: ImageMaker) -> None:
    new = wanted(owner=OWNER)
    await maker.create(new, token=None)
    await maker.delete(new.id)
    await maker.delete(new.id)
    with pytest.raises(NotFound):
        await maker.show(new.id, token=None)
    with pytest.raises(NotFound):
        await maker.describe(new.id, {"a": "b"})
    with pytest.raises(NotFound):
        await maker.upload(new.id, data(b"one"))


async def test_only_its_owner_may_make_it(maker: ImageMaker) -> None:
    if isinstance(maker, Images):
        pytest.skip("it knows nobody")
    with pytest.raises(Forbidden):
        await maker.create(wanted(owner="p-bob"), token=TOKEN)
