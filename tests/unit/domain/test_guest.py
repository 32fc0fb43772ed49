"""Which disks a guest can be made with."""

from __future__ import annotations

import msgspec

from kilonova.domain.guest import Disk


def test_a_volume_needs_a_connection() -> None:
    local = Disk(id="d", role="root", source="image", device="vda")
    assert local.usable
    volume = msgspec.structs.replace(local, source="volume")
    assert not volume.usable
    assert msgspec.structs.replace(volume, connection={"driver_volume_type": "local"}).usable
