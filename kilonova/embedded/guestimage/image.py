"""Builds the small bootable guest image once and keeps it in a cache."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from . import disk, packages, tree
from .tools import GuestImageError, check_host

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction done (0.0 to 1.0)."""

NAME = "kilonova-guest"
MIN_DISK_GIB = 0
"""The disk of 48 MiB fits every flavor, also those that take the image's own size."""
MIN_RAM_MIB = 96
LOCK_WAIT_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class GuestImage:
    """A finished image: ``size`` in bytes, ``min_disk`` in GiB, ``min_ram`` in MiB."""

    name: str
    path: Path
    size: int
    sha512: str
    min_disk: int
    min_ram: int
    disk_format: str = "qcow2"
    container_format: str = "bare"
    properties: dict[str, str] = field(default_factory=dict)


def fingerprint() -> str:
    """Changes whenever a file of the recipe (this package) changes."""
    digest = hashlib.sha256()

    def add(item: Traversable, path: str) -> None:
        if item.is_dir():
            for child in sorted(item.iterdir(), key=lambda each: each.name):
                if child.name != "__pycache__":
                    add(child, f"{path}/{child.name}")
        else:
            content = item.read_bytes()
            digest.update(f"{path}\0{len(content)}\0".encode())
            digest.update(content)

    add(files(__package__), "")
    return digest.hexdigest()[:20]


def sha512_of(path: Path) -> str:
    """The hash of a file, as Glance's ``os_hash_value``."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()


async def build(target: Path, *, cache_dir: Path, progress: Progress) -> GuestImage:
    """Put the guest image at ``target``, building it unless the cache has it.

    ``cache_dir`` (made when missing) keeps packages and the finished image; builders that share
    it wait for each other. Needs no root. Raises GuestImageError with what to do.
    """
    home = cache_dir / "guestimage"
    mark = fingerprint()
    finished = home / f"{NAME}-{mark}.qcow2"
    try:
        home.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        async with _lock(home / "lock"):
            facts = await asyncio.to_thread(_finished, finished)
            if facts is None:
                facts = await _build(home, finished, progress)
        await asyncio.to_thread(_place, finished, target, facts["sha512"])
    except OSError as error:
        raise GuestImageError(
            f"The guest image cannot be written: {error.strerror or error} ({error.filename})."
        ) from error
    progress("guest image ready", 1.0)
    return GuestImage(
        name=NAME,
        path=target,
        size=finished.stat().st_size,
        sha512=facts["sha512"],
        min_disk=MIN_DISK_GIB,
        min_ram=MIN_RAM_MIB,
        properties={
            "architecture": "x86_64",
            "hw_qemu_guest_agent": "yes",
            "hw_rng_model": "virtio",
            "os_admin_user": "root",
            "os_distro": "debian",
            "os_type": "linux",
            "kilonova_kernel": facts["kernel"],
        },
    )


@contextlib.asynccontextmanager
async def _lock(path: Path) -> AsyncIterator[None]:
    with path.open("a") as file:
        try:
            async with asyncio.timeout(LOCK_WAIT_SECONDS):
                while True:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        await asyncio.sleep(0.1)
        except TimeoutError:
            raise GuestImageError(
                f"Another process holds {path}: wait until it has built the image, or end it."
            ) from None
        yield


def _finished(image: Path) -> dict[str, str] | None:
    """What is known about a finished image, or None when there is none that is whole."""
    try:
        facts = json.loads(image.with_suffix(".json").read_bytes())
        whole = sha512_of(image) == facts["sha512"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {"sha512": facts["sha512"], "kernel": str(facts["kernel"])} if whole else None


async def _build(home: Path, finished: Path, progress: Progress) -> dict[str, str]:
    check_host()
    debs = await packages.fetch(
        home / "packages", progress=lambda text, part: progress(text, part * 0.5)
    )
    work = Path(tempfile.mkdtemp(prefix="build-", dir=home))
    try:
        unpacked = work / "packages"
        unpacked.mkdir()
        progress("unpacking packages", 0.5)
        await packages.unpack(debs, unpacked)
        progress("making the file tree", 0.65)
        initramfs = work / "initrd"
        initramfs.write_bytes(await tree.initramfs(unpacked))
        await tree.state_tree(unpacked, work / "state")
        version = tree.kernel_version(unpacked)
        progress("writing the disk", 0.8)
        image = await disk.make_disk(
            work,
            kernel=unpacked / "boot" / f"vmlinuz-{version}",
            initramfs=initramfs,
            state=work / "state",
        )
        facts = {"sha512": await asyncio.to_thread(sha512_of, image), "kernel": version}
        notes = {**facts, "packages": [deb.name for deb in debs]}
        await asyncio.to_thread(_keep, image, notes, finished)
        return facts
    finally:
        await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)


def _keep(image: Path, notes: Mapping[str, object], finished: Path) -> None:
    """Make a new image the cache's only one."""
    for old in finished.parent.glob(f"{NAME}-*"):
        old.unlink()
    facts = image.with_suffix(".json")
    facts.write_text(json.dumps(notes, indent=1))
    image.replace(finished)
    facts.replace(finished.with_suffix(".json"))


def _place(finished: Path, target: Path, sha512: str) -> None:
    """Copy the image to its target in one step; a target that is already right is left alone."""
    if target.exists() and sha512_of(target) == sha512:
        return
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        shutil.copyfile(finished, temporary)
        temporary.chmod(0o644)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def describe(image: GuestImage) -> dict[str, object]:
    """The image as plain values."""
    return {**asdict(image), "path": str(image.path)}
