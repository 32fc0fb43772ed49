"""Copies of disks: where they lie, what becomes of them, and guests that stand still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from kilonova.base.errors import Conflict, NotFound, Unavailable
from kilonova.config.settings import Settings
from kilonova.domain.guest import Disk
from kilonova.virt import snapshots
from kilonova.virt.disks import DiskFile
from tests.support.guests import spec

SETTINGS = Settings()
FILE = DiskFile("/disk", "qcow2")


def settings(**changes: object) -> Settings:
    libvirt = msgspec.structs.replace(SETTINGS.libvirt, **changes)
    return msgspec.structs.replace(SETTINGS, libvirt=libvirt)


class Inside:
    """What a guest was told."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.heard: list[str] = []
        self.deaf = deaf

    async def freeze(self) -> None:
        self.heard.append("freeze")
        if self.deaf:
            raise Unavailable("silence")

    async def thaw(self) -> None:
        self.heard.append("thaw")


@pytest.mark.parametrize(
    ("given", "live", "packs", "form", "last", "twice"),
    [
        ({}, True, True, "qcow2", "qcow2", False),
        ({"snapshot_image_format": "raw"}, True, True, "raw", "raw", False),
        ({"snapshot_image_format": "vmdk"}, True, True, "qcow2", "vmdk", True),
        ({"snapshot_image_format": "vmdk"}, False, True, "vmdk", "vmdk", False),
        ({"snapshot_compression": True}, True, True, "qcow2", "qcow2", False),
        ({"snapshot_compression": True}, True, False, "qcow2", "qcow2", True),
        ({"snapshot_compression": True}, False, False, "qcow2", "qcow2", False),
    ],
)
def test_plans(
    given: dict[str, object], live: bool, packs: bool, form: str, last: str, twice: bool
) -> None:
    made = snapshots.plan(settings(**given), Path("/x"), FILE, "i", live=live, packs=packs)
    assert (made.form, made.last, made.twice) == (form, last, twice)
    assert made.whole == Path(f"/x/snapshot-i.{last}")
    assert made.compress == ("snapshot_compression" in given)


def test_places(tmp_path: Path) -> None:
    assert snapshots.place(SETTINGS, tmp_path / "id") == tmp_path / "id"
    other = settings(snapshots_directory="/far")
    assert snapshots.place(other, tmp_path / "id") == Path("/far/id")


def test_only_whole_copies_are_found(tmp_path: Path) -> None:
    for name in ("snapshot-a.part", "snapshot-b.qcow2", "disk"):
        (tmp_path / name).write_bytes(b"x")
    assert snapshots.find(tmp_path, "a") is None
    assert snapshots.find(tmp_path, "b") == (tmp_path / "snapshot-b.qcow2", "qcow2")
    snapshots.drop(tmp_path, "a")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["disk", "snapshot-b.qcow2"]
    snapshots.drop(tmp_path)
    snapshots.drop(tmp_path / "nowhere")
    assert [file.name for file in tmp_path.iterdir()] == ["disk"]


def test_no_room(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no room"):
        snapshots.make_room(tmp_path / "where", FILE, spare=1 << 62)


def test_only_disks_of_its_own_make_images() -> None:
    assert snapshots.root_of(spec()).id == "root"
    volume = Disk(id="v", role="root", source="volume", device="vda")
    with pytest.raises(Conflict):
        snapshots.root_of(spec(disks=(volume,)))


async def test_pieces_are_read_as_they_are_wanted(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x" * (snapshots.PIECE + 1))
    read: AsyncIterator[bytes] = snapshots.pieces(file)
    assert [len(piece) async for piece in read] == [snapshots.PIECE, 1]


AGENT = {"hw_qemu_guest_agent": "yes"}
MUST = {**AGENT, "os_require_quiesce": "yes"}


@pytest.mark.parametrize(
    ("properties", "deaf", "heard"),
    [
        ({}, False, []),
        (AGENT, False, ["freeze", "thaw"]),
        (AGENT, True, ["freeze", "thaw"]),
        (MUST, False, ["freeze", "thaw"]),
    ],
)
async def test_a_guest_stands_still(
    properties: dict[str, str], deaf: bool, heard: list[str]
) -> None:
    inside = Inside(deaf=deaf)
    async with snapshots.quiet(spec(properties=properties), inside.freeze, inside.thaw):
        assert inside.heard == heard[:1]
    assert inside.heard == heard


@pytest.mark.parametrize("properties", [{"os_require_quiesce": "yes"}, MUST])
async def test_a_guest_that_must_stand_still(properties: dict[str, str]) -> None:
    inside = Inside(deaf=True)
    with pytest.raises(Conflict):
        async with snapshots.quiet(spec(properties=properties), inside.freeze, inside.thaw):
            raise AssertionError("nothing is done then")
    assert inside.heard[-1:] in ([], ["thaw"])


async def test_a_guest_stands_still_for_a_limited_time() -> None:
    inside, other = Inside(), Inside()
    thaws = snapshots.Thaws(0.01)
    await thaws.begin("a", inside.freeze, inside.thaw)
    async with asyncio.timeout(5):
        while inside.heard != ["freeze", "thaw"]:
            await asyncio.sleep(0.01)
    patient = snapshots.Thaws()
    await patient.begin("a", inside.freeze, inside.thaw)
    await patient.end("a", inside.thaw)
    await patient.begin("b", other.freeze, other.thaw)
    await patient.close()
    assert inside.heard == ["freeze", "thaw"] * 2
    assert other.heard == ["freeze", "thaw"]


async def test_nothing_is_sent_without_a_copy(tmp_path: Path) -> None:
    class Host:
        name = "h1"
        sink = None

    with pytest.raises(Unavailable):
        await snapshots.send(Host(), tmp_path, "i")  # type: ignore[arg-type]

    class Sink:
        async def upload(self, image_id: str, disk_format: str, data: object) -> None:
            data()  # type: ignore[operator]

    Host.sink = Sink()  # type: ignore[assignment]
    with pytest.raises(NotFound):
        await snapshots.send(Host(), tmp_path, "i")  # type: ignore[arg-type]
