"""Disks planned from flavor, image and wishes, and the names guests know them by."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import pytest

from kilonova.base.errors import BadRequest, NotSupported
from kilonova.domain.disks import BlankDisk, RootDisk, file_of, letters, on_file, plan, resized
from kilonova.domain.guest import Disk
from tests.support.compute import FLAVOR, IMAGE

ROOMY = msgspec.structs.replace(FLAVOR, root_gb=2, ephemeral_gb=10, swap_mb=512)


def ids() -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"d{next(numbers)}"


def planned(*blanks: BlankDisk, root: RootDisk | None = None) -> tuple[Disk, ...]:
    return plan(ROOMY, IMAGE, blanks, root=root or RootDisk(), new_id=ids())


def test_what_the_flavor_gives() -> None:
    disks = planned()
    assert [(d.role, d.device, d.size_mb) for d in disks] == [
        ("root", "vda", 2048),
        ("ephemeral", "vdb", 10240),
        ("swap", "vdc", 512),
    ]
    assert disks[0].boot_index == 0
    assert len({d.id for d in disks}) == 3


def test_wishes_come_first_and_names_do_not_clash() -> None:
    disks = planned(
        BlankDisk(size_gb=4, device="/dev/vda"),
        BlankDisk(size_gb=6, bus="scsi"),
        BlankDisk(swap=True),
    )
    assert [d.device for d in disks] == ["vdb", "vda", "sda", "vdc"]
    root = planned(root=RootDisk(bus="ide", device="/dev/hdc", tag="system"))[0]
    assert (root.device, root.bus, root.tag) == ("hdc", "ide", "system")


@pytest.mark.parametrize(
    ("blanks", "said"),
    [
        ((BlankDisk(size_gb=11),), "larger than the flavor"),
        ((BlankDisk(), BlankDisk(size_gb=1)), "larger than the flavor"),
        ((BlankDisk(swap=True), BlankDisk(swap=True)), "More than one swap"),
        ((BlankDisk(swap=True, size_gb=513),), "Swap drive requested is larger"),
    ],
)
def test_more_than_the_flavor_gives(blanks: tuple[BlankDisk, ...], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        planned(*blanks)


def test_letters() -> None:
    assert [letters(n) for n in (0, 25, 26, 51, 52, 701, 702)] == [
        "a", "z", "aa", "az", "ba", "zz", "aaa",
    ]  # fmt: skip


def test_a_medium_is_no_disk() -> None:
    medium = msgspec.structs.replace(IMAGE, disk_format="iso", properties={})
    root, ephemeral, _ = plan(ROOMY, medium, (), root=RootDisk(), new_id=ids())
    assert (root.device_type, root.bus, root.device) == ("cdrom", "sata", "sda")
    assert (ephemeral.device_type, ephemeral.device) == ("disk", "vda")
    medium = msgspec.structs.replace(medium, properties={"hw_cdrom_bus": "scsi"})
    assert plan(ROOMY, medium, (), root=RootDisk(), new_id=ids())[0].bus == "scsi"


def test_file_systems_that_are_asked_for() -> None:
    disks = planned(BlankDisk(size_gb=4, format="vfat"), BlankDisk(swap=True, format="swap"))
    assert [d.file_system for d in disks] == [msgspec.UNSET, "vfat", msgspec.UNSET]


def test_disks_without_a_size_need_a_flavor_that_has_one() -> None:
    bare = msgspec.structs.replace(ROOMY, ephemeral_gb=0, swap_mb=0)
    blanks = (BlankDisk(), BlankDisk(swap=True))
    assert len(plan(bare, IMAGE, blanks, root=RootDisk(), new_id=ids())) == 1


def test_a_volume_goes_on_in_a_file_beside_its_own() -> None:
    disk = Disk(id="d", role="volume", source="volume", device="vdb", volume_id="v")
    local = {"driver_volume_type": "local", "data": {"device_path": "/volumes/v", "x": 1}}
    nfs = {"driver_volume_type": "nfs", "data": {"export": "h:/e", "name": "v", "format": "raw"}}
    made = []
    for connection in (local, nfs):
        before = msgspec.structs.replace(disk, connection=connection)
        after = on_file(before, "v.s1")
        made.append(after.connection)
        assert (file_of(before), file_of(after)) == ("v", "v.s1")
    data = {"device_path": "/volumes/v.s1", "x": 1, "format": "qcow2"}
    assert made[0] == {**local, "data": data}
    data = {"export": "h:/e", "name": "v.s1", "format": "qcow2"}
    assert made[1] == {**nfs, "data": data}
    iscsi = {"driver_volume_type": "iscsi", "data": {"target_iqn": "i"}}
    for other in (iscsi, None, {"driver_volume_type": "nfs", "data": {}}):
        with pytest.raises(NotSupported, match="is no file"):
            on_file(msgspec.structs.replace(disk, connection=other), "v.s1")


def test_disks_grow_with_the_flavor() -> None:
    before = planned()
    bigger = msgspec.structs.replace(ROOMY, root_gb=4, ephemeral_gb=20, swap_mb=64)
    after = resized(before, ROOMY, bigger, new_id=ids())
    assert [(d.id, d.role, d.size_mb) for d in after] == [
        (before[0].id, "root", 4096),
        (before[1].id, "ephemeral", 20480),
        (before[2].id, "swap", 64),
    ]
    assert resized(before, ROOMY, ROOMY, new_id=ids()) == before


def test_disks_that_a_flavor_has_more_or_no_more() -> None:
    plain = msgspec.structs.replace(ROOMY, ephemeral_gb=0, swap_mb=0)
    (root,) = plan(plain, IMAGE, (), root=RootDisk(), new_id=ids())
    grown = resized((root,), plain, ROOMY, new_id=ids())
    assert [(d.role, d.device, d.size_mb) for d in grown] == [
        ("root", "vda", 2048),
        ("ephemeral", "vdb", 10240),
        ("swap", "vdc", 512),
    ]
    less = msgspec.structs.replace(ROOMY, swap_mb=0)
    assert [d.role for d in resized(planned(), ROOMY, less, new_id=ids())] == ["root", "ephemeral"]


@pytest.mark.parametrize("values", [{"root_gb": 1}, {"ephemeral_gb": 9}])
def test_no_data_is_cut_off(values: dict[str, int]) -> None:
    smaller = msgspec.structs.replace(ROOMY, **values)
    with pytest.raises(BadRequest, match="smaller"):
        resized(planned(), ROOMY, smaller, new_id=ids())


def test_a_volume_stays_as_it_is() -> None:
    volume = Disk(id="v", role="root", source="volume", device="vda", size_mb=9 << 10)
    none = msgspec.structs.replace(FLAVOR, root_gb=0)
    assert resized((volume,), FLAVOR, none, new_id=ids()) == (volume,)
