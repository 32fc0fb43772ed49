"""File shares of a guest: mounted on the host, and served to the guest by virtiofsd.

Nothing of a share is ever inside the guest's own directory, which is removed with all in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from kilonova.base import programs, sockets
from kilonova.base.errors import NotSupported, Unavailable
from kilonova.config.settings import Settings
from kilonova.domain.guest import GuestShare, GuestSpec
from kilonova.virt.home import Home
from kilonova.virt.qemu.process import Process, spawn

PLACE = "shares"
MOUNT_SECONDS = 60.0
UNMOUNT_TRIES, UNMOUNT_PAUSE = 5, 0.3
MOST_TAG = 36
"""Bytes; the length of the field in the device (virtio 1.2, 5.11.4)."""
MOUNTS = Path("/proc/self/mountinfo")
PROGRAMS = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "virtiofsd")
TRAITS = ("COMPUTE_MEM_BACKING_FILE", "COMPUTE_STORAGE_VIRTIO_FS")

log = logging.getLogger(__name__)


class Mounter(Protocol):
    """What makes an export appear at a place of the host."""

    async def mount(self, share: GuestShare, place: Path, settings: Settings) -> None:
        """Mount it; Unavailable."""

    async def unmount(self, place: Path) -> None:
        """Take it away; Unavailable while it is in use."""


class Nfs:
    """NFS by the kernel of the host."""

    async def mount(self, share: GuestShare, place: Path, settings: Settings) -> None:
        """NotSupported for another protocol."""
        if share.protocol != "NFS":
            raise NotSupported(f"This hypervisor cannot mount {share.protocol} shares.")
        options = settings.libvirt.nfs_mount_options
        more = ("-o", options) if options else ()
        words = ("mount", "-t", "nfs", *more, "--", share.export, str(place))
        await programs.run(*words, seconds=MOUNT_SECONDS)

    async def unmount(self, place: Path) -> None:
        """Also where the server does not answer any more."""
        await programs.run("umount", "--", str(place), seconds=MOUNT_SECONDS)


def program() -> str | None:
    """The daemon, where it can be used: it enters namespaces, which only root may."""
    if os.geteuid() != 0:
        return None
    return next((found for name in PROGRAMS if (found := programs.find(name))), None)


def traits() -> tuple[str, ...]:
    """What the host can do for guests with shares."""
    return TRAITS if program() is not None else ()


def leftovers(state_dir: Path, known: Container[str]) -> list[str]:
    """Mount points of servers that are not ``known``, one line each."""
    place = state_dir / PLACE
    names = sorted(entry.name for entry in place.iterdir()) if place.is_dir() else []
    return [f"file shares of server {name}" for name in names if name not in known]


class FileShares:
    """The shares of one guest while it runs."""

    def __init__(self, state_dir: Path, home: Home, settings: Settings, mounter: Mounter) -> None:
        self._home = home
        self._settings = settings
        self._mounter = mounter
        self._place = state_dir / PLACE / home.path.name
        self._daemons: list[Process] = []

    async def up(self, guest: GuestSpec, opened: contextlib.ExitStack) -> dict[str, int]:
        """Mount the shares and start their daemons; name → descriptor for QEMU.

        The descriptors are closed with ``opened``. What fails leaves nothing of them.
        """
        try:
            return {
                name_of(number): await self._serve(share, opened)
                for number, share in enumerate(guest.shares or ())
            }
        except BaseException:
            await self.down()
            raise

    async def down(self) -> None:
        """End the daemons and unmount; nothing there is success."""
        for daemon in self._daemons:
            await daemon.end(seconds=1)
        self._daemons.clear()
        for place in self._mounted():
            await self._unmount(place)
        with contextlib.suppress(OSError):
            self._place.rmdir()

    def let_go(self) -> None:
        """The guest and its daemons go on without us."""
        for daemon in self._daemons:
            daemon.release()
        self._daemons.clear()

    async def _unmount(self, place: Path) -> None:
        for _ in range(UNMOUNT_TRIES):
            if not await asyncio.to_thread(_is_mounted, place):
                await asyncio.to_thread(place.rmdir)
                return
            try:
                await self._mounter.unmount(place)
            except Unavailable as fault:
                # A daemon that ends with its guest may still have it for a moment.
                log.info("The share at %s is not unmounted yet: %s", place, fault.message)
                await asyncio.sleep(UNMOUNT_PAUSE)
        log.error("The share at %s could not be unmounted", place)

    def _mounted(self) -> Iterable[Path]:
        return sorted(self._place.iterdir()) if self._place.is_dir() else ()

    async def _serve(self, share: GuestShare, opened: contextlib.ExitStack) -> int:
        daemon = program()
        if daemon is None:
            raise NotSupported("This host has no virtiofsd, or the agent is not root.")
        if len(share.tag.encode()) > MOST_TAG:
            raise NotSupported(f"A tag has {MOST_TAG} bytes at most here; {share.tag} is longer.")
        place = self._place / _short(share.share_id)
        await asyncio.to_thread(place.mkdir, mode=0o700, parents=True, exist_ok=True)
        if not await asyncio.to_thread(_is_mounted, place):
            await self._mounter.mount(share, place, self._settings)
        path = self._home.path / f"share-{place.name}.sock"
        listening = opened.enter_context(sockets.listen(path))
        where = ("-o", f"source={place}") if "qemu/" in daemon else ("--shared-dir", str(place))
        fd = listening.fileno()
        said = self._home.path / f"{path.stem}.log"
        pid = spawn([daemon, f"--fd={fd}", *where], log=said, fds=(fd,))
        self._daemons.append(Process(pid, os.pidfd_open(pid)))
        return opened.enter_context(await sockets.connect(path)).fileno()


def name_of(number: int) -> str:
    """QEMU's name of a guest's share."""
    return f"share{number}"


def words(guest: GuestSpec, fds: Mapping[str, int], memory_mb: int) -> list[str]:
    """What QEMU's command line says of shares: memory that the daemons see, and a device each."""
    if not guest.shares:
        return []
    memory = f"memory-backend-memfd,id=memory0,size={memory_mb}M,share=on"
    said = ["-object", memory, "-machine", "memory-backend=memory0"]
    for number, share in enumerate(guest.shares):
        name = name_of(number)
        said += ["-chardev", f"socket,id={name}-host,fd={fds[name]}"]
        said += ["-device", f"vhost-user-fs-pci,id={name},chardev={name}-host,tag={share.tag}"]
    return said


def _is_mounted(place: Path) -> bool:
    """By the kernel's table (proc(5)): what is bound from the same file system counts, too."""
    table = MOUNTS.read_text(errors="surrogateescape").splitlines()
    return str(place).replace(" ", "\\040") in {line.split(" ")[4] for line in table}


def _short(share_id: str) -> str:
    return hashlib.blake2b(share_id.encode(), digest_size=8).hexdigest()
