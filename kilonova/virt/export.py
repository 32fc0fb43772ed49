"""A guest's disks for another host to fetch: read-only NBD exports of one daemon, with TLS.

The daemon is QEMU's own (``qemu-storage-daemon``) and outlives this process, as guests do. Who
connects has to know the key that is made for this one time (RFC 4279).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from kilonova.base import programs
from kilonova.base.errors import Unavailable
from kilonova.domain.guest import Disk
from kilonova.domain.moves import Offer
from kilonova.virt import ports
from kilonova.virt.disks import DiskFile, forget, image_options, volume_file

PROGRAM = "qemu-storage-daemon"
IDENTITY = "kilonova"
START_SECONDS = 60.0
END_SECONDS = 10.0
COPY_SECONDS = 35_000.0
TRIES = 5
_OFFER, _PID, _KEYS, _LOG = "offer.json", "offer.pid", "offer", "offer.log"

log = logging.getLogger(__name__)


async def begin(
    directory: Path, files: Mapping[str, DiskFile], *, address: str, span: str
) -> Offer:
    """Export files (device name → file) for reading; the offer of before while that is kept.

    ``span`` is ``first:last`` of the ports to choose from. What belongs to the export is kept in
    ``directory``. Unavailable.
    """
    known = await asyncio.to_thread(_known, directory)
    if known is not None:
        return known
    await end(directory)
    key = secrets.token_hex(32)
    await asyncio.to_thread(_keep_key, directory / _KEYS, key)
    for attempt in range(1, TRIES + 1):
        port = ports.choose(f"{directory}{attempt}", span, (), address=address)
        try:
            await asyncio.to_thread(_launch, directory, files, address, port)
            break
        except Unavailable:
            # Somebody may have been faster with the port.
            if attempt == TRIES:
                raise
    offer = Offer(address, port, IDENTITY, key, {device: device for device in files})
    _write(directory / _OFFER, msgspec.json.encode(offer))
    return offer


async def end(directory: Path) -> None:
    """Export nothing any more; nothing there is success."""
    await asyncio.to_thread(_end, directory)


async def fetch(offer: Offer, device: str, target: Path, form: str) -> None:
    """Copy one disk of an offer to a new file of that format; what is zero takes no room."""
    data = {
        "host": offer.host,
        "port": offer.port,
        "export": offer.disks[device],
        "tls_identity": offer.identity,
        "tls_psk": offer.key,
    }
    disk = Disk(
        id=device,
        role="volume",
        source="volume",
        device=device,
        connection={"driver_volume_type": "nbd", "data": data},
    )
    source = await asyncio.to_thread(volume_file, disk, target.parent)
    objects = [("--object", msgspec.json.encode(each).decode()) for each in source.objects]
    try:
        await programs.run(
            *("qemu-img", "convert", "-O", form, "--image-opts"),
            *(word for pair in objects for word in pair),
            *(image_options(source), str(target)),
            seconds=COPY_SECONDS,
        )
    finally:
        await asyncio.to_thread(forget, source)


def _launch(directory: Path, files: Mapping[str, DiskFile], address: str, port: int) -> None:
    program = programs.find(PROGRAM)
    if program is None:
        raise Unavailable(f"The program {PROGRAM} is missing on this host; install it.")
    keys = str(directory / _KEYS).replace(",", ",,")
    command = [
        *(program, "--daemonize", "--pidfile", str(directory / _PID)),
        *("--object", f"tls-creds-psk,id=tls,dir={keys},endpoint=server"),
        *("--nbd-server", f"addr.type=inet,addr.host={address},addr.port={port},tls-creds=tls"),
    ]
    for device, file in files.items():
        command += ["--blockdev", msgspec.json.encode(_node(device, file)).decode()]
        command += ["--export", f"type=nbd,id={device},node-name={device},name={device}"]
    said = directory / _LOG
    # A file, for who waits for the end of a pipe would wait for the daemon's end.
    with said.open("wb") as out:
        status = _wait(command, out)
    if status != 0:
        lines = said.read_text(errors="replace").strip().splitlines()
        raise Unavailable(f"{PROGRAM} failed: {lines[-1] if lines else status}")


def _wait(command: list[str], out: Any) -> int:
    import subprocess  # noqa: PLC0415 (seldom needed)

    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            timeout=START_SECONDS,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{PROGRAM} did not start within {START_SECONDS:g} s.") from None


def _node(device: str, file: DiskFile) -> dict[str, Any]:
    return {
        "driver": file.format,
        "node-name": device,
        "read-only": True,
        "file": {"driver": "file", "filename": file.path, "read-only": True},
    }


def _known(directory: Path) -> Offer | None:
    try:
        offer = msgspec.json.decode((directory / _OFFER).read_bytes(), type=Offer)
    except (OSError, msgspec.MsgspecError):
        return None
    return offer if _pid(directory) is not None else None


def _pid(directory: Path) -> int | None:
    """The daemon's process, if it lives and is ours."""
    file = directory / _PID
    try:
        pid = int(file.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(file) in words else None


def _end(directory: Path) -> None:
    pid = _pid(directory)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        limit = time.monotonic() + END_SECONDS
        while _pid(directory) is not None and time.monotonic() < limit:
            time.sleep(0.02)
        if _pid(directory) is not None:
            log.warning("The export of %s did not end by itself", directory.name)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for name in (_OFFER, _PID, _LOG):
        (directory / name).unlink(missing_ok=True)
    keys = directory / _KEYS
    if keys.is_dir():
        (keys / "keys.psk").unlink(missing_ok=True)
        keys.rmdir()


def _keep_key(keys: Path, key: str) -> None:
    keys.mkdir(mode=0o700, exist_ok=True)
    _write(keys / "keys.psk", f"{IDENTITY}:{key}\n".encode())


def _write(file: Path, data: bytes) -> None:
    part = file.with_name(f"{file.name}.part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as out:
        out.write(data)
    part.replace(file)
