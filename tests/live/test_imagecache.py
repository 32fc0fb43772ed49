"""The image cache on real images."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import stat
import struct
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from kilonova.base.clock import SystemClock
from kilonova.base.errors import BadGateway, BadRequest, NotFound, Unavailable
from kilonova.config.compute import Compute
from kilonova.config.default import Default
from kilonova.config.settings import Settings
from kilonova.domain.guest import ImageRef
from kilonova.virt.imagecache import ImageCache
from tests.support.guests import Files, image_of

ID = "11111111-0000-4000-8000-000000000001"
RAW = Settings()
COW = Settings(default=Default(force_raw_images=False))


pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("qemu-img") is None, reason="no qemu-img"),
]


class Hurried(SystemClock):
    """A clock that does not wait long."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.02))


@pytest.fixture
def qcow2(tmp_path: Path) -> Path:
    file = tmp_path / "image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", file, "8M"], check=True)
    return file


def cache(tmp_path: Path, files: Files, settings: Settings = RAW) -> ImageCache:
    return ImageCache(tmp_path / "_base", files, clock=Hurried(), settings=settings, host="h1")


async def test_an_image_is_fetched_once_for_many(tmp_path: Path, qcow2: Path) -> None:
    files = Files(**{ID: qcow2})
    one, other = cache(tmp_path, files), cache(tmp_path, files)
    image = image_of(qcow2, ID)
    bases = await asyncio.gather(*(each.base(image) for each in (one, one, other, other, one)))
    assert files.downloads == 1
    assert len(set(bases)) == 1
    base = bases[0]
    assert (base.format, base.virtual_size) == ("raw", 8 << 20)
    assert stat.S_IMODE(Path(base.path).stat().st_mode) == 0o444
    assert {p.suffix for p in (tmp_path / "_base").iterdir()} == {".img", ".json", ".lock"}


async def test_qcow2_can_be_kept(tmp_path: Path, qcow2: Path) -> None:
    base = await cache(tmp_path, Files(**{ID: qcow2}), COW).base(image_of(qcow2, ID))
    assert base.format == "qcow2"
    assert Path(base.path).read_bytes() == qcow2.read_bytes()


async def test_raw_and_other_formats(tmp_path: Path) -> None:
    plain = tmp_path / "plain.raw"
    plain.write_bytes(b"\0" * (1 << 20))
    base = await cache(tmp_path, Files(**{ID: plain})).base(image_of(plain, ID, "raw"))
    assert (base.format, base.virtual_size) == ("raw", 1 << 20)
    for kind, option in (("vdi", "vdi"), ("vhd", "vpc"), ("vhdx", "vhdx")):
        file = tmp_path / f"image.{kind}"
        subprocess.run(["qemu-img", "create", "-q", "-f", option, file, "8M"], check=True)
        base = await cache(tmp_path, Files(**{kind: file})).base(image_of(file, kind, kind))
        assert base.format == "raw"
    file = tmp_path / "image.vmdk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", file, "8M"], check=True)
    base = await cache(tmp_path, Files(vmdk=file)).base(image_of(file, "vmdk", "vmdk"))
    assert base.virtual_size == 8 << 20
    none = Settings(compute=Compute(vmdk_allowed_types=()))
    with pytest.raises(BadRequest, match="VMDK images of type monolithicSparse"):
        await cache(tmp_path / "2", Files(vmdk=file), none).base(image_of(file, "vmdk", "vmdk"))


async def test_unsafe_images_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * (1 << 20))
    backed = tmp_path / "backed"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, backed, "8M"],
        check=True,
    )
    outside = tmp_path / "outside"
    option = f"data_file={secret},data_file_raw=on"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-o", option, outside, "8M"], check=True
    )
    disguised = tmp_path / "disguised"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disguised, "8M"], check=True)
    made = cache(tmp_path, Files(backed=backed, outside=outside, disguised=disguised))
    with pytest.raises(BadRequest, match="backing_file"):
        await made.base(image_of(backed, "backed"))
    with pytest.raises(BadRequest, match="data_file"):
        await made.base(image_of(outside, "outside"))
    with pytest.raises(BadRequest, match="declared to be raw but its content is qcow2"):
        await made.base(image_of(disguised, "disguised", "raw"))
    with pytest.raises(BadRequest, match="disk format ploop"):
        await made.base(image_of(disguised, "disguised", "ploop"))
    assert {p.suffix for p in (tmp_path / "_base").iterdir()} == {".lock"}


async def test_damaged_data_is_noticed(tmp_path: Path, qcow2: Path) -> None:
    made = cache(tmp_path, Files(**{ID: qcow2}))
    image = image_of(qcow2, ID)
    wrong = hashlib.sha512(b"other").hexdigest()
    with pytest.raises(BadGateway, match="hash"):
        await made.base(msgspec.structs.replace(image, os_hash_value=wrong))
    with pytest.raises(BadGateway, match="bytes"):
        await made.base(msgspec.structs.replace(image, size=image.size - 1))
    with pytest.raises(NotFound):
        await made.base(msgspec.structs.replace(image, id="gone"))
    assert (await made.base(image)).virtual_size == 8 << 20


async def test_a_broken_download_is_tried_again(tmp_path: Path, qcow2: Path) -> None:
    class Flaky(Files):
        async def download(self, image: ImageRef) -> AsyncIterator[bytes]:
            self.downloads += 1
            if self.downloads == 1:
                yield b"half"
                raise Unavailable("the connection broke")
            yield qcow2.read_bytes()

    files = Flaky()
    assert (await cache(tmp_path, files).base(image_of(qcow2, ID))).file_size > 0
    assert files.downloads == 2


async def test_a_disk_too_small_is_said_to_each_who_asks(tmp_path: Path, qcow2: Path) -> None:
    made = cache(tmp_path, Files(**{ID: qcow2}))
    image = image_of(qcow2, ID)
    small, big = await asyncio.gather(
        made.base(image, most_bytes=1 << 20), made.base(image), return_exceptions=True
    )
    assert isinstance(small, BadRequest)
    assert not isinstance(big, BaseException)
    with pytest.raises(BadRequest, match=r"\(4 MiB\) is too small for the image \(8 MiB\)"):
        await made.base(image, most_bytes=4 << 20)


async def test_no_space_is_said(tmp_path: Path, qcow2: Path) -> None:
    made = cache(tmp_path, Files(**{ID: qcow2}))
    with pytest.raises(Unavailable, match="no disk space"):
        await made.base(msgspec.structs.replace(image_of(qcow2, ID), size=1 << 60))


async def test_unused_bases_go_and_damaged_ones_come_again(tmp_path: Path, qcow2: Path) -> None:
    files = Files(**{ID: qcow2})
    made = cache(tmp_path, files)
    image = image_of(qcow2, ID)
    base = await made.base(image)
    assert await made.prune({ID}, unused_seconds=0) == []
    assert await made.prune((), unused_seconds=3600) == []
    Path(base.path).chmod(0o644)
    os.truncate(base.path, 10)
    await made.base(image)
    assert files.downloads == 2
    assert await made.prune((), unused_seconds=0) == [ID]
    assert not Path(base.path).exists()


async def test_a_bootable_iso_is_taken_as_it_is(tmp_path: Path) -> None:
    """Such an image is an ISO and a partitioned disk at once."""
    file = tmp_path / "hybrid.iso"
    sector = bytearray(512)
    sector[446:462] = struct.pack("<B3sB3sII", 0x80, b"\0\2\0", 0xCD, b"\0\3\0", 1, 64)
    sector[510:512] = b"\x55\xaa"
    data = bytearray(1 << 20)
    data[:512] = sector
    data[32768:32774] = b"\x01CD001"
    file.write_bytes(data)
    base = await cache(tmp_path, Files(**{ID: file})).base(image_of(file, ID, "iso"))
    assert (base.format, base.virtual_size) == ("raw", 1 << 20)
