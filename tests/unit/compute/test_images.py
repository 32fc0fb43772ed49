"""Sending images: once, again, and while somebody's broken upload is not forgotten yet."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from kilonova.base.clock import VirtualClock
from kilonova.base.errors import Conflict, NotFound
from kilonova.compute.images import MadeImages
from kilonova.domain.imaging import NewImage
from tests.support.images import Images


async def data() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


class Clock(VirtualClock):
    """Time that passes by itself, and brings an image back to queued."""

    def __init__(self, images: Images) -> None:
        super().__init__()
        self.images = images
        self.slept = 0

    async def sleep(self, seconds: float) -> None:
        self.slept += 1
        if self.slept == 3:
            await self.images.describe("i", {"status": "queued"})


@pytest.fixture
async def images() -> Images:
    made = Images()
    await made.create(NewImage("i", "mine"), token=None)
    return made


async def test_an_image_is_sent_once(images: Images) -> None:
    sink = MadeImages(images, Clock(images))
    await sink.upload("i", "qcow2", data)
    await sink.upload("i", "raw", data)
    image = images.table["i"]
    assert (image.status, image.disk_format, image.container_format) == ("active", "qcow2", "bare")
    assert images.data["i"] == b"onetwo"


async def test_a_broken_upload_is_waited_for(images: Images) -> None:
    await images.describe("i", {"status": "saving"})
    clock = Clock(images)
    await MadeImages(images, clock).upload("i", "raw", data)
    assert (clock.slept, images.table["i"].status) == (3, "active")


async def test_not_for_ever(images: Images) -> None:
    clock = Clock(images)
    clock.slept = 9
    images.table["i"] = msgspec.structs.replace(images.table["i"], status="saving")
    with pytest.raises(Conflict):
        await MadeImages(images, clock).upload("i", "raw", data)


async def test_an_image_that_is_gone(images: Images) -> None:
    with pytest.raises(NotFound):
        await MadeImages(images, Clock(images)).upload("j", "raw", data)
