"""Config drives: files as an ISO 9660 image, or on FAT, with the label ``config-2``."""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from kilonova.base import programs

LABEL = "config-2"
PUBLISHER = "KILONOVA"
FAT_MIB = 64


async def make(target: Path, files: Mapping[str, bytes], kind: str = "iso9660") -> None:
    """Make a drive of a ``kind`` (``iso9660`` or ``vfat``) at ``target``, whole or not at all.

    Unavailable when the programs for FAT are missing (dosfstools, mtools) or the files do not fit.
    """
    if kind == "vfat":
        await _write_fat(target, files)
    else:
        await asyncio.to_thread(write, target, files)


async def _write_fat(target: Path, files: Mapping[str, bytes]) -> None:
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="drive-", dir=target.parent) as home:
        tops = await asyncio.to_thread(_lay_out, Path(home), files)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            os.truncate(part, FAT_MIB << 20)
            await programs.run("mkfs.vfat", "-n", LABEL, str(part))
            if tops:
                await programs.run("mcopy", "-s", "-Q", "-i", str(part), *tops, "::/")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _lay_out(home: Path, files: Mapping[str, bytes]) -> list[str]:
    for name, data in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return sorted(str(path) for path in home.iterdir())


def write(target: Path, files: Mapping[str, bytes]) -> None:
    """Make the ISO image at ``target``, whole or not at all; paths are relative, with slashes.

    Long names are kept by Rock Ridge and Joliet beside the short ones of ISO 9660.
    """
    part = target.with_name(target.name + ".part")
    import pycdlib  # noqa: PLC0415 (slow, and few guests have a config drive)

    iso = pycdlib.PyCdlib()
    iso.new(
        interchange_level=3, vol_ident=LABEL, joliet=3, rock_ridge="1.09", pub_ident_str=PUBLISHER
    )
    try:
        short = _ShortNames()
        made: set[PurePosixPath] = set()
        for name in sorted(files):
            path = PurePosixPath(name)
            for folder in reversed(path.parents[:-1]):
                if folder not in made:
                    made.add(folder)
                    iso.add_directory(
                        short.folder(folder), rr_name=folder.name, joliet_path=f"/{folder}"
                    )
            data = files[name]
            iso.add_fp(
                io.BytesIO(data),
                len(data),
                short.file(path),
                rr_name=path.name,
                joliet_path=f"/{path}",
            )
        iso.write(str(part))
    finally:
        iso.close()
    part.chmod(0o600)
    part.replace(target)


class _ShortNames:
    """Unique ISO 9660 names: letters and digits, 8 characters for files."""

    def __init__(self) -> None:
        self._folders: dict[PurePosixPath, str] = {PurePosixPath("."): ""}
        self._count = 0

    def folder(self, path: PurePosixPath) -> str:
        if path not in self._folders:
            self._folders[path] = f"{self._folders[path.parent]}/D{self._next()}"
        return self._folders[path]

    def file(self, path: PurePosixPath) -> str:
        return f"{self._folders[path.parent]}/F{self._next()}.;1"

    def _next(self) -> str:
        self._count += 1
        return f"{self._count:07d}"
