"""Runs the host tools the guest image is made with; says which package brings a missing one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from kilonova.base import programs

PACKAGES: Mapping[str, str] = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "depmod": "kmod",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "syslinux": "syslinux",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
}
MBR_CODE = Path("/usr/lib/syslinux/mbr/mbr.bin")
_SYSTEM_DIRS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")


class GuestImageError(Exception):
    """The guest image cannot be made; the message says what to do."""


def search_path() -> str:
    """PATH with the system directories an ordinary user's PATH leaves out."""
    return os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM_DIRS])


def missing_packages(path: str, mbr_code: Path) -> set[str]:
    """The apt packages whose tools are not found on ``path``."""
    missing = {
        package for tool, package in PACKAGES.items() if shutil.which(tool, path=path) is None
    }
    return missing if mbr_code.exists() else missing | {"syslinux-common"}


def check_host() -> None:
    """Raises GuestImageError naming every apt package that is missing on this machine."""
    missing = missing_packages(search_path(), MBR_CODE)
    if not missing:
        return
    if missing & {"apt", "dpkg"}:
        raise GuestImageError(
            "The guest image is made from Debian packages and this machine has no apt: "
            "make the image on a Debian or Ubuntu machine, or give an image of your own."
        )
    names = " ".join(sorted(missing))
    raise GuestImageError(
        f"Host tools for the guest image are missing: run 'sudo apt-get install {names}'."
    )


class ToolFailed(GuestImageError):
    """A host tool ended with an error; ``output`` is what it said."""

    def __init__(self, command: str, status: int | None, output: str) -> None:
        super().__init__(f"{command} failed (status {status}): {output.strip()[-600:]}")
        self.output = output


async def run(*command: str | Path, cwd: Path | None = None, timeout: float = 120.0) -> str:
    """Runs a command with plain C locale and no terminal; its standard output.

    Raises ToolFailed when it ends with an error or is not done after ``timeout`` seconds.
    """
    words = [str(word) for word in command]
    environment = {
        **os.environ,
        "PATH": search_path(),
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "MTOOLS_SKIP_CHECK": "1",
    }
    try:
        ended = await programs.execute(*words, seconds=timeout, cwd=cwd, environment=environment)
    except FileNotFoundError:
        raise ToolFailed(words[0], None, "it is not on this machine") from None
    except TimeoutError:
        raise ToolFailed(words[0], None, f"not done after {timeout:g} seconds") from None
    if ended.status != 0:
        said = (ended.complaint or ended.output).decode(errors="replace")
        raise ToolFailed(words[0], ended.status, said)
    return ended.output.decode(errors="replace")
