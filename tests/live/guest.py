"""Runs the guest image in plain QEMU with user-mode networking, as tests of the image need it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pycdlib

DEADLINE = 120.0

METADATA_HELPER = """
import pathlib, sys
path = sys.stdin.readline().split()[1]
while sys.stdin.readline().strip():
    pass
file = pathlib.Path(sys.argv[1]) / path.rsplit("/", 1)[-1]
body = file.read_bytes() if path.startswith("/openstack/latest/") and file.is_file() else None
status = b"404 Not Found" if body is None else b"200 OK"
body = body or b""
sys.stdout.buffer.write(b"HTTP/1.0 %s\\r\\nContent-Length: %d\\r\\n\\r\\n" % (status, len(body)))
sys.stdout.buffer.write(body)
sys.stdout.flush()
"""


@dataclass
class Guest:
    """One running QEMU: its serial log, a way in over SSH, and its monitor."""

    process: asyncio.subprocess.Process
    log: Path
    ssh_port: int
    key: Path
    monitor: Path
    deadline: float
    known: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Console lines so far."""
        return [line.rstrip("\r") for line in self.log.read_text(errors="replace").split("\n")]

    async def wait_for(self, *starts: str, count: int = 1) -> str:
        """Wait for ``count`` lines that begin with one of ``starts``; the last of them."""
        while time.monotonic() < self.deadline:
            found = [line for line in self.lines() if line.startswith(starts)]
            if len(found) >= count:
                return found[count - 1]
            if self.process.returncode is not None:
                break
            await asyncio.sleep(0.05)
        raise AssertionError(f"no {starts} in:\n" + "\n".join(self.lines()))

    async def ssh(self, command: str, user: str = "root") -> str:
        """Standard output of a command run in the guest."""
        process = await asyncio.create_subprocess_exec(
            "ssh", "-i", str(self.key), "-p", str(self.ssh_port),
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20",
            "-o", "LogLevel=ERROR", "-F", "none", f"{user}@127.0.0.1", command,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err.decode()
        return out.decode()

    async def qmp(self, command: str, **arguments: Any) -> Any:
        """One monitor command on a connection of its own."""
        reader, writer = await asyncio.open_unix_connection(str(self.monitor))
        try:
            await reader.readline()
            for request in ({"execute": "qmp_capabilities"},
                            {"execute": command, "arguments": arguments}):  # fmt: skip
                writer.write(json.dumps(request).encode() + b"\n")
                answer = await _answer(reader)
            assert "return" in answer, answer
            return answer["return"]
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def ended(self) -> None:
        """Wait until QEMU is gone."""
        await asyncio.wait_for(self.process.wait(), max(1.0, self.deadline - time.monotonic()))


async def _answer(reader: asyncio.StreamReader) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(reader.readline(), 30))
        if "event" not in message:
            return message


def free_port() -> int:
    """A TCP port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def user_network(
    work: Path, *, port: int, guest_address: str = "169.254.0.15", metadata: Path | None = None
) -> list[str]:
    """QEMU arguments: a NIC on a restricted user-mode network, SSH forwarded, metadata served."""
    words = (
        "user,id=net0,restrict=on,net=169.254.0.0/16,host=169.254.0.2,dhcpstart=169.254.0.15,"
        f"hostfwd=tcp:127.0.0.1:{port}-{guest_address}:22"
    )
    if metadata is not None:
        helper = work / "metadata_helper.py"
        helper.write_text(METADATA_HELPER)
        command = shlex.join([sys.executable, "-S", str(helper), str(metadata)])
        words += ",guestfwd=tcp:169.254.169.254:80-cmd:" + command.replace(",", ",,")
    return [
        "-netdev",
        words,
        "-device",
        "virtio-net-pci,netdev=net0,mac=52:54:00:aa:bb:01,romfile=",
    ]


def iso_config_drive(target: Path, files: dict[str, bytes]) -> None:
    """A config drive as ISO 9660 with long names; paths are below ``openstack/latest``."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, vol_ident="config-2", rock_ridge="1.09", joliet=3)
    for path in ("openstack", "openstack/latest"):
        iso.add_directory(
            "/" + path.upper(), rr_name=path.rsplit("/", maxsplit=1)[-1], joliet_path="/" + path
        )
    for number, (name, content) in enumerate(files.items()):
        iso.add_fp(
            io.BytesIO(content),
            len(content),
            f"/OPENSTACK/LATEST/F{number}.;1",
            rr_name=name,
            joliet_path=f"/openstack/latest/{name}",
        )
    iso.write(str(target))
    iso.close()


def vfat_config_drive(target: Path, files: dict[str, bytes]) -> None:
    """A config drive as an unpartitioned FAT file system."""
    with target.open("wb") as file:
        file.truncate(4 * 1024 * 1024)
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    env = {**os.environ, "PATH": path, "MTOOLS_SKIP_CHECK": "1"}

    def run(*command: str | Path) -> None:
        subprocess.run(command, env=env, check=True, capture_output=True, timeout=30)

    run("mkfs.vfat", "-n", "config-2", target)
    for folder in ("::/openstack", "::/openstack/latest"):
        run("mmd", "-i", target, folder)
    for name, content in files.items():
        source = target.with_name(f"{target.name}.part")
        source.write_bytes(content)
        run("mcopy", "-i", target, source, f"::/openstack/latest/{name}")


@contextlib.asynccontextmanager
async def running(
    work: Path,
    disk: Path,
    *arguments: str,
    key: Path,
    port: int,
    machine: str = "pc",
    ram: int = 128,
) -> AsyncIterator[Guest]:
    """QEMU with ``disk`` as its boot disk; killed at the end."""
    work.mkdir(parents=True, exist_ok=True)
    log = work / "console.log"
    monitor = work / "qmp"
    log.write_bytes(b"")
    errors = work / "qemu.err"
    with errors.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            "qemu-system-x86_64", "-nodefaults", "-display", "none", "-M", machine,
            "-cpu", "qemu64", "-m", str(ram), "-accel", "tcg,tb-size=32",
            "-chardev", f"file,id=serial0,path={log}", "-serial", "chardev:serial0",
            "-qmp", f"unix:{monitor},server=on,wait=off",
            "-drive", f"file={disk},if=none,id=disk0,format=qcow2",
            "-device", "virtio-blk-pci,drive=disk0,bootindex=1,serial=root",
            "-device", "virtio-rng-pci", *arguments,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
    guest = Guest(process, log, port, key, monitor, time.monotonic() + DEADLINE)
    try:
        yield guest
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
