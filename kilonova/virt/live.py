"""What moving running guests has in common for all drivers."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from kilonova.base.errors import Conflict
from kilonova.domain.live import LiveShape

STORE = ".store"


def must_copy(shape: LiveShape, store: str, *, block: bool | None) -> bool:
    """Whether the data of local disks moves with the guest to a host whose directory is ``store``.

    Conflict when that is not what was asked for. An empty store fits whatever is asked.
    """
    if not shape.disks:
        if block:
            raise Conflict(
                "Migration pre-check error: the server has no disks of its own to copy; use "
                "block_migration false or auto."
            )
        return False
    if not shape.store or not store:
        return block is not False
    shared = shape.store == store
    if shared and block:
        raise Conflict(
            "Migration pre-check error: the hosts share their storage, so block migration can not "
            "be used."
        )
    if not shared and block is False:
        raise Conflict(
            "Migration pre-check error: the hosts do not share their storage; live migration can "
            "not be used without block migration."
        )
    return not shared


def store_id(directory: Path) -> str:
    """A name of the directory that all hosts which share it agree on."""
    file = directory / STORE
    part = directory / f"{STORE}.{os.getpid()}"
    if not file.exists():
        part.write_text(str(uuid.uuid4()))
        try:
            os.link(part, file)
        except FileExistsError:
            pass
        finally:
            part.unlink()
    return file.read_text()
