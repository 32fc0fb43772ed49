"""Which compute node this host is: a UUID that must never change."""

from __future__ import annotations

import uuid
from pathlib import Path

from kilonova.base.errors import Conflict
from kilonova.base.ids import Ids

FILE = "compute_id"
PROVISIONED = (Path("/etc/nova") / FILE, Path("/etc/kilonova") / FILE)


def node_uuid(state_path: Path, ids: Ids, *, provisioned: tuple[Path, ...] = PROVISIONED) -> str:
    """The node's UUID: from a file an operator put there, else ``$state_path/compute_id``.

    The first start makes one. Raises Conflict when a file holds no UUID, or two files disagree.
    Source: Nova admin guide, page "Compute Node Identification".
    """
    own = state_path / FILE
    found = {file: _read(file) for file in (own, *provisioned) if file.is_file()}
    if len(set(found.values())) > 1:
        places = " and ".join(str(file) for file in found)
        raise Conflict(f"{places} name different compute nodes; keep the right one.")
    if found:
        return next(iter(found.values()))
    made = ids.uuid()
    own.parent.mkdir(parents=True, exist_ok=True)
    part = own.with_name(f"{FILE}.part")
    part.write_text(made + "\n")
    part.replace(own)
    return made


def _read(file: Path) -> str:
    text = file.read_text().strip()
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise Conflict(f"{file} holds no UUID; restore it from a backup.") from None
