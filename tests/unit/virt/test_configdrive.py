from __future__ import annotations

import io
import stat
from pathlib import Path

import pycdlib
import pytest

from kilonova.base import programs
from kilonova.base.errors import Unavailable
from kilonova.virt import configdrive

FILES = {
    "openstack/latest/meta_data.json": b'{"uuid": "x"}',
    "openstack/2018-08-27/meta_data.json": b'{"uuid": "y"}',
    "openstack/content/0000": b"\0" * 5000,
    "ec2/latest/meta-data.json": b"",
}


def test_every_file_is_there_under_its_name(tmp_path: Path) -> None:
    target = tmp_path / "config.iso"
    configdrive.write(target, FILES)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.iso"]
    iso = pycdlib.PyCdlib()
    iso.open(str(target))
    try:
        assert iso.pvd.volume_identifier.decode().strip() == "config-2"
        for name, data in FILES.items():
            for where in ("rr_path", "joliet_path"):
                out = io.BytesIO()
                iso.get_file_from_iso_fp(out, **{where: f"/{name}"})
                assert out.getvalue() == data
    finally:
        iso.close()


def test_an_empty_drive_can_be_made(tmp_path: Path) -> None:
    configdrive.write(tmp_path / "empty.iso", {})
    assert (tmp_path / "empty.iso").stat().st_size > 0


@pytest.mark.skipif(programs.find("mcopy") is None, reason="no mtools")
async def test_on_fat_too(tmp_path: Path) -> None:
    target = tmp_path / "disk.config"
    await configdrive.make(target, FILES, "vfat")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["disk.config"]
    with target.open("rb") as disk:
        assert disk.read(54)[43:] == b"config-2   "
    for name, data in FILES.items():
        assert await programs.run("mtype", "-i", str(target), f"::/{name}") == data


@pytest.mark.skipif(programs.find("mcopy") is None, reason="no mtools")
async def test_what_fat_cannot_hold_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="mcopy failed"):
        await configdrive.make(
            tmp_path / "disk", {"big": bytes((configdrive.FAT_MIB + 1) << 20)}, "vfat"
        )
    assert list(tmp_path.iterdir()) == []
