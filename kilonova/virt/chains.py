"""Merging the files of a volume with snapshots, while no guest uses it."""

from __future__ import annotations

from kilonova.base import programs
from kilonova.base.errors import Conflict, NotFound
from kilonova.virt.disks import COPY_SECONDS, DiskFile, image_options, name_of


async def merge(file: DiskFile, name: str | None, into: str | None) -> None:
    """Make one of two files; as ``operations.MergeVolume``.

    NotFound when there is no such file; Conflict for two below the volume's own.
    """
    names = [name_of(link["file"]) for link in file.chain]
    if into is None:
        if name is not None and name not in names:
            raise NotFound(f"The volume has no file {name}.")
        form = file.chain[names.index(name)]["driver"] if name is not None else ""
        base = ("-F", form, "-b", str(name)) if name is not None else ("-b", "")
        await _change("rebase", *base, image_options(file))
        return
    own = name_of(file.remote or {"filename": file.path})
    if name == own and into in names:
        await _change("commit", "-d", "-b", into, image_options(file))
    elif name in names:
        raise Conflict("Start the server; files below others are merged while it runs.")


async def _change(command: str, *options: str) -> None:
    await programs.run("qemu-img", command, "--image-opts", *options, seconds=COPY_SECONDS)
