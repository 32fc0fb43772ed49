"""Finds, fetches and unpacks the distribution's packages the guest is made of."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

from .tools import GuestImageError, ToolFailed, run

KERNEL = "linux-image-cloud-amd64"
PROGRAMS = ("busybox-static", "dropbear-bin", "qemu-guest-agent")
_WANTED = re.compile(r"(linux-image-[0-9]|busybox-static|dropbear-bin|qemu-guest-agent|lib|zlib1g)")
_URI_LINE = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+)")


class Apt:
    """apt-get with the machine's package lists, or with private ones under ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # An archive directory of our own, always empty: apt is silent about what it holds already.
        archives = directory / "archives"
        (archives / "partial").mkdir(parents=True, exist_ok=True)
        self._options: list[str] = [
            "-qq",
            "-o", "Debug::NoLocking=1",
            "-o", "APT::Sandbox::User=",
            "-o", "APT::Install-Recommends=false",
            "-o", "Dir::State::status=/dev/null",
            "-o", "Acquire::Retries=2",
            "-o", f"Dir::Cache::archives={archives}",
        ]  # fmt: skip

    def use_private_lists(self) -> None:
        """From now on keep package lists under our own directory: needs no root."""
        lists = self._directory / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        self._options += [
            "-o", f"Dir::State::lists={lists}",
            "-o", f"Dir::Cache={self._directory}",
        ]  # fmt: skip

    async def update(self) -> None:
        """Refresh the package lists."""
        await run("apt-get", *self._options, "update", timeout=300)

    async def closure(self, *names: str) -> dict[str, str]:
        """Every package an empty machine would get with ``names``: file name → package=version."""
        text = await run("apt-get", *self._options, "--print-uris", "-y", "install", *names)
        found: dict[str, str] = {}
        for line in text.splitlines():
            match = _URI_LINE.match(line)
            if match is None:
                continue
            name, version, _ = match["file"].split("_", 2)
            found[match["file"]] = f"{name}={unquote(version)}"
        return found

    async def download(self, packages: Sequence[str], into: Path) -> None:
        """Fetch packages (``name=version``); apt checks hashes and the archive's signature."""
        await run("apt-get", *self._options, "download", *packages, cwd=into, timeout=600)


async def resolve(apt: Apt) -> dict[str, str]:
    """The packages of the guest: file name → package=version."""
    found = await apt.closure(*PROGRAMS)
    found |= {
        file: spec
        for file, spec in (await apt.closure(KERNEL)).items()
        if file.startswith("linux-image-")
    }
    return {file: spec for file, spec in found.items() if _WANTED.match(file)}


async def fetch(cache: Path, *, progress: Callable[[str, float], None]) -> list[Path]:
    """The guest's packages as files in ``cache``; only those not there yet are fetched.

    Raises GuestImageError when the package lists are missing or the archive is out of reach.
    """
    apt = Apt(cache.parent / "apt")
    progress("asking apt for the packages", 0.0)
    try:
        return await _fetch(apt, cache, progress)
    except ToolFailed:
        # Lists that are missing or older than the archive: refresh them and try once more.
        if os.geteuid() != 0:
            apt.use_private_lists()
    progress("updating the package lists", 0.1)
    try:
        await apt.update()
        return await _fetch(apt, cache, progress)
    except ToolFailed as error:
        raise GuestImageError(
            "The guest image's packages cannot be fetched: check the network and the package "
            f"sources, run 'sudo apt-get update' and start again. ({error})"
        ) from error


async def _fetch(apt: Apt, cache: Path, progress: Callable[[str, float], None]) -> list[Path]:
    wanted = await resolve(apt)
    partial = cache / "partial"
    here = await asyncio.to_thread(_start_partial, cache, partial)
    missing = [spec for file, spec in wanted.items() if file not in here]
    if missing:
        progress(f"fetching {len(missing)} packages", 0.4)
        await apt.download(missing, partial)
    await asyncio.to_thread(_finish_partial, cache, partial, set(wanted))
    return [cache / file for file in wanted]


def _start_partial(cache: Path, partial: Path) -> set[str]:
    """An empty directory for downloads; the names the cache has already."""
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return {path.name for path in cache.glob("*.deb")}


def _finish_partial(cache: Path, partial: Path, wanted: set[str]) -> None:
    """Take over what was downloaded; drop packages of former recipes and versions."""
    for path in partial.iterdir():
        path.replace(cache / path.name)
    partial.rmdir()
    for path in cache.glob("*.deb"):
        if path.name not in wanted:
            path.unlink()


async def unpack(packages: Sequence[Path], into: Path) -> None:
    """Lay the packages' files over each other under ``into``."""
    for package in packages:
        await run("dpkg-deb", "-x", package, into)
