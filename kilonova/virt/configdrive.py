"""Config drives: files as an ISO 9660 image with the label ``config-2``."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pycdlib

LABEL = "config-2"
PUBLISHER = "KILONOVA"


def write(target: Path, files: Mapping[str, bytes]) -> None:
    """Make the image at ``target``, whole or not at all; paths are relative, with slashes.

    Long names are kept by Rock Ridge and Joliet beside the short ones of ISO 9660.
    """
    part = target.with_name(target.name + ".part")
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
