"""Which disks move with a running guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from kilonova.base.errors import Conflict
from kilonova.domain.live import LiveDisk, LiveShape
from kilonova.virt.live import must_copy, store_id

LOCAL = {"vda": LiveDisk(1 << 20)}


@pytest.mark.parametrize(
    ("disks", "here", "there", "block", "copied"),
    [
        (LOCAL, "a", "b", None, True),
        (LOCAL, "a", "a", None, False),
        (LOCAL, "a", "b", True, True),
        (LOCAL, "a", "a", False, False),
        (LOCAL, "", "b", None, True),
        (LOCAL, "", "", False, False),
        ({}, "a", "b", None, False),
        ({}, "a", "b", False, False),
    ],
)
def test_disks_move_where_they_are_not_shared(
    disks: dict[str, LiveDisk], here: str, there: str, block: bool | None, copied: bool
) -> None:
    assert must_copy(LiveShape(store=here, disks=disks), there, block=block) is copied


@pytest.mark.parametrize(
    ("disks", "there", "block"), [(LOCAL, "a", True), (LOCAL, "b", False), ({}, "b", True)]
)
def test_what_was_asked_for_must_fit(disks: dict[str, LiveDisk], there: str, block: bool) -> None:
    with pytest.raises(Conflict):
        must_copy(LiveShape(store="a", disks=disks), there, block=block)


def test_a_directory_has_one_name(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert store_id(tmp_path) == store_id(tmp_path) != store_id(other)
    assert [entry.name for entry in other.iterdir()] == [".store"]
