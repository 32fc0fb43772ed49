"""Base images on the host: downloaded once, checked, read-only, shared by all guests."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import re
import shutil
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from kilonova.base import aio, programs
from kilonova.base.clock import Clock
from kilonova.base.errors import BadGateway, BadRequest, Fault, Timeout, Unavailable
from kilonova.config.settings import Settings
from kilonova.domain.guest import ImageRef
from kilonova.imagefile import Inspected, inspect
from kilonova.virt.driver import ImageSource

TRIES = 3
CONVERT_SECONDS = 3600.0
INFO_CPU_SECONDS = 2
CONVERT_CPU_SECONDS = 1800
LOCK_POLL_SECONDS = 0.1
SPARE_BYTES = 64 << 20
_PLAIN = re.compile(r"^[0-9a-f][0-9a-f-]{31,35}$")

log = logging.getLogger(__name__)


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class Base(msgspec.Struct, frozen=True):
    """A cached image: ``format`` as qemu-img calls it, sizes in bytes."""

    path: str
    format: str
    virtual_size: int
    file_size: int
    image_id: str


class ImageCache:
    """The directory of base images of one host.

    Several processes may share it. A base is complete or not there: files are made under another
    name, then renamed; what a killed process left is removed by the next.
    """

    def __init__(
        self,
        directory: Path,
        images: ImageSource,
        *,
        clock: Clock,
        settings: Settings,
        host: str,
    ) -> None:
        self._directory = directory
        self._images = images
        self._clock = clock
        self._settings = settings
        self._host = host
        self._joined: aio.Joined[str, Base] = aio.Joined()

    async def base(self, image: ImageRef, *, most_bytes: int | None = None) -> Base:
        """The image's base, fetched if it is not there yet.

        Raises BadRequest when the image is unsafe, mislabelled, or its disk larger than
        ``most_bytes``; NotFound or Unavailable from the image service; Unavailable without space.
        """
        excluded = self._settings.compute.image_type_exclude_list
        if image.disk_format in excluded:
            raise BadRequest(f"Host {self._host} takes no images of format {image.disk_format}.")
        base = self._find(image.id)
        if base is None:
            base = await self._joined.run(
                f"{image.id} {most_bytes}",
                lambda: self._fetch_locked(image, most_bytes=most_bytes),
            )
        _check_size(base.virtual_size, most_bytes)
        return base

    async def ensure(self, image: ImageRef) -> bool:
        """Have the base here; False when it was here already. Raises what ``base`` raises."""
        there = self._find(image.id) is not None
        await self.base(image)
        return not there

    async def prune(self, used: Collection[str], *, unused_seconds: float) -> list[str]:
        """Remove bases of which neither image id nor path is in ``used``, last used that long ago.

        Their image ids.
        """
        removed = []
        now = self._clock.now().timestamp()
        for facts in sorted(self._directory.glob("*.json")):
            base = _read(facts)
            if base is None or base.image_id in used or base.path in used:
                continue
            if now - facts.stat().st_mtime < unused_seconds:
                continue
            async with self._lock(base.image_id):
                _remove(facts, base)
            removed.append(base.image_id)
        return removed

    def _find(self, image_id: str) -> Base | None:
        facts = self._facts(image_id)
        base = _read(facts)
        if base is None:
            return None
        try:
            there = Path(base.path).stat().st_size == base.file_size
        except FileNotFoundError:
            there = False
        if not there:
            return None
        with contextlib.suppress(OSError):
            os.utime(facts)
        return base

    async def _fetch_locked(self, image: ImageRef, *, most_bytes: int | None) -> Base:
        async with self._lock(image.id):
            base = self._find(image.id)
            if base is not None:
                return base
            part = self._directory / f"{_key(image.id)}.part"
            try:
                with self._space(image):
                    await self._download(image, part)
                    return await self._finish(image, part, most_bytes)
            finally:
                for rest in (part, part.with_suffix(".raw")):
                    rest.unlink(missing_ok=True)

    async def _download(self, image: ImageRef, part: Path) -> None:
        free = shutil.disk_usage(self._directory).free
        if image.size + SPARE_BYTES > free:
            raise OSError(errno.ENOSPC, "no space")
        pauses = aio.backoff(0.5, most=5.0)
        for attempt in range(1, TRIES + 1):
            try:
                await self._download_once(image, part)
                return
            except (Unavailable, BadGateway, Timeout) as fault:
                if attempt == TRIES:
                    raise
                log.warning("Download of image %s failed: %s", image.id, fault.message)
                await self._clock.sleep(next(pauses))

    async def _download_once(self, image: ImageRef, part: Path) -> None:
        digest: _Digest | None = hashlib.new(image.os_hash_algo) if _known_hash(image) else None
        size = 0
        with part.open("wb") as out:
            async for chunk in self._images.download(image):
                size += len(chunk)
                if image.size and size > image.size:
                    break
                await asyncio.to_thread(_take, out, digest, chunk)
        if image.size and size != image.size:
            raise BadGateway(
                f"The image service sent {size} bytes of image {image.id}, not {image.size}."
            )
        if digest is not None and digest.hexdigest() != image.os_hash_value:
            raise BadGateway(f"The data of image {image.id} does not have the hash it should.")

    async def _finish(self, image: ImageRef, part: Path, most_bytes: int | None) -> Base:
        what = await asyncio.to_thread(inspect, part, image.disk_format)
        _check_size(what.virtual_size, most_bytes)
        if what.format == "vmdk":
            await self._check_vmdk(part)
        raw = self._settings.default.force_raw_images or what.format != "qcow2"
        done = await self._to_raw(part, what) if raw else part
        target = self._directory / f"{_key(image.id)}.img"
        done.chmod(0o444)
        done.replace(target)
        base = Base(
            path=str(target),
            format="raw" if raw else what.format,
            virtual_size=what.virtual_size,
            file_size=target.stat().st_size,
            image_id=image.id,
        )
        facts = self._facts(image.id)
        temporary = facts.with_suffix(".json.part")
        temporary.write_bytes(msgspec.json.encode(base))
        temporary.replace(facts)
        return base

    async def _to_raw(self, part: Path, what: Inspected) -> Path:
        if what.format == "raw":
            return part
        target = part.with_suffix(".raw")
        await programs.run(
            *("qemu-img", "convert", "-f", what.format, "-O", "raw", str(part), str(target)),
            seconds=CONVERT_SECONDS,
            cpu_seconds=CONVERT_CPU_SECONDS,
        )
        return target

    async def _check_vmdk(self, part: Path) -> None:
        info = msgspec.json.decode(
            await programs.run(
                *("qemu-img", "info", "-f", "vmdk", "--output=json", str(part)),
                cpu_seconds=INFO_CPU_SECONDS,
            )
        )
        kind = info.get("format-specific", {}).get("data", {}).get("create-type", "unknown")
        if kind not in self._settings.compute.vmdk_allowed_types:
            raise BadRequest(f"VMDK images of type {kind} are not allowed here.")

    @contextlib.contextmanager
    def _space(self, image: ImageRef) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise self._full(image) from None
        except Fault as fault:
            if "No space left" in fault.message:
                raise self._full(image) from None
            raise

    def _full(self, image: ImageRef) -> Unavailable:
        free = shutil.disk_usage(self._directory).free >> 20
        return Unavailable(
            f"Host {self._host} has no disk space for image {image.id}: {free} MiB are free in "
            f"{self._directory}, the image has {image.size >> 20} MiB before conversion."
        )

    @contextlib.asynccontextmanager
    async def _lock(self, image_id: str) -> AsyncIterator[None]:
        # Others may open what they know the id of (QEMU as another user), but not look around.
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        with (self._directory / f"{_key(image_id)}.lock").open("a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await self._clock.sleep(LOCK_POLL_SECONDS)
            yield

    def _facts(self, image_id: str) -> Path:
        return self._directory / f"{_key(image_id)}.json"


def _key(image_id: str) -> str:
    """A file name for an image id: itself when it is one of the usual kind, else its hash."""
    if _PLAIN.match(image_id):
        return image_id
    return hashlib.sha256(image_id.encode()).hexdigest()


def _known_hash(image: ImageRef) -> bool:
    return bool(image.os_hash_value) and image.os_hash_algo in hashlib.algorithms_available


def _take(out: BinaryIO, digest: _Digest | None, chunk: bytes) -> None:
    out.write(chunk)
    if digest is not None:
        digest.update(chunk)


def _read(facts: Path) -> Base | None:
    try:
        return msgspec.json.decode(facts.read_bytes(), type=Base)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _remove(facts: Path, base: Base) -> None:
    facts.unlink(missing_ok=True)
    Path(base.path).unlink(missing_ok=True)


def _check_size(virtual_size: int, most_bytes: int | None) -> None:
    if most_bytes is not None and virtual_size > most_bytes:
        raise BadRequest(
            f"The flavor's disk ({most_bytes >> 20} MiB) is too small for the image "
            f"({-(-virtual_size // (1 << 20))} MiB)."
        )
