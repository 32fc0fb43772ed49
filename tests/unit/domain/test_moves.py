"""What is kept of a server that moves."""

from __future__ import annotations

import msgspec

from kilonova.domain.guest import Disk, PowerState
from kilonova.domain.moves import COLD, Before, Kind, Moving, kept, read
from kilonova.domain.resources import Migration
from kilonova.domain.states import VmState
from tests.support.compute import FLAVOR, NOW

ROOT = Disk(id="r", role="root", source="image", device="vda", size_mb=1024)
SWAP = Disk(id="s", role="swap", source="blank", device="vdc", size_mb=8)
VOLUME = Disk(id="v", role="volume", source="volume", device="vdb", volume_id="v1")
BEFORE = Before(VmState.ACTIVE, PowerState.RUNNING, FLAVOR, "nova", (ROOT, SWAP), ("r", "v", "s"))


def row(data: dict[str, object]) -> Migration:
    return Migration(
        1, "m", "i", "resize", "finished", "p", "u", "h1", "h1", "h2", "h2", 1, 2, NOW, NOW, data
    )


def test_what_is_kept_is_read_again() -> None:
    assert read(row(kept(BEFORE))) == BEFORE
    assert read(row({})) is None
    assert read(row(msgspec.json.decode(msgspec.json.encode(kept(BEFORE))))) == BEFORE


def test_disks_come_in_their_order() -> None:
    newer = msgspec.structs.replace(VOLUME, id="w", volume_id="v2")
    assert [disk.id for disk in BEFORE.with_volumes([newer, VOLUME])] == ["r", "v", "s", "w"]


def test_whether_it_ran_and_left() -> None:
    moving = Moving("m", 1, Kind.RESIZE, "h1", "h1", FLAVOR, BEFORE, dest="h1")
    assert (moving.ran, moving.away) == (True, False)
    off = msgspec.structs.replace(BEFORE, vm_state=VmState.STOPPED)
    moving = msgspec.structs.replace(moving, before=off, dest="h2")
    assert (moving.ran, moving.away) == (False, True)


def test_kinds_by_name() -> None:
    assert "migration" in COLD
    assert "live-migration" not in COLD
