"""Volumes for other hosts: NBD exports of one lasting daemon, which follow the attachments' rows.

The daemon is QEMU's own (``qemu-storage-daemon``). It outlives this process, so that guests do not
notice a restart of the service; it ends with its last export. Who connects has to know the key that
only services are told, and speaks TLS by it (RFC 4279).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilonova.base import programs, sockets
from kilonova.base.aio import backoff
from kilonova.base.clock import Clock
from kilonova.base.errors import Fault, Unavailable

if TYPE_CHECKING:
    from kilonova.embedded.volume.daemon import Daemon

PROGRAM = "qemu-storage-daemon"
USER = "kilonova"
START_SECONDS = 20.0
WATCH_SECONDS = 5.0
_CONTROL, _KEYS, _PID = "control.sock", "keys.psk", "pid"
_TRIES = 20

log = logging.getLogger(__name__)


def possible() -> bool:
    """Whether this host has the program."""
    return programs.find(PROGRAM) is not None


class Exports:
    """Names (those of attachments) under which volumes are exported, to be written to or not."""

    def __init__(
        self, directory: Path, *, address: str, port: int, clock: Clock, tls: bool = True
    ) -> None:
        self.address = address
        self.port = port
        self.tls = tls
        self._directory = directory
        self._clock = clock
        self._lock = asyncio.Lock()
        self._wanted: dict[str, tuple[Path, dict[str, bool]]] = {}
        self._watching: asyncio.Task[None] | None = None

    def key(self) -> str:
        """The key of all exports, in hexadecimal digits; made once."""
        file = self._directory / _KEYS
        try:
            return file.read_text().strip().partition(":")[2]
        except FileNotFoundError:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = secrets.token_hex(32)
        part = file.with_suffix(".part")
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as out:
            out.write(f"{USER}:{key}\n")
        part.replace(file)
        return key

    async def begin(self, wanted: Mapping[str, tuple[Path, dict[str, bool]]]) -> None:
        """Have exactly these exports (volume id → file and exports), as after a start."""
        async with self._lock:
            self._wanted = {key: value for key, value in wanted.items() if value[1]}
            try:
                await self._settle(self._wanted, whole=True)
            except Fault as fault:
                log.error("Volumes are not exported: %s", fault.message)
            self._watch()

    async def follow(
        self, volume_id: str, file: Path, look: Callable[[], Awaitable[dict[str, bool]]]
    ) -> None:
        """Have exactly the exports of one volume that ``look`` finds; Unavailable.

        It looks when its turn has come, so that the last of several has seen everything.
        """
        async with self._lock:
            exports = await look()
            if exports:
                self._wanted[volume_id] = (file, exports)
            elif self._wanted.pop(volume_id, None) is None:
                return
            await self._settle({volume_id: (file, exports)})
            self._watch()

    async def renew(self, volume_id: str) -> None:
        """Let clients see a volume's new size: they are cut off, and come back at once."""
        async with self._lock:
            if volume_id not in self._wanted:
                return
            file, exports = self._wanted[volume_id]
            await self._settle({volume_id: (file, {})}, last=False)
            await self._settle({volume_id: (file, exports)})

    async def close(self) -> None:
        """Stop looking after them; they go on."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    def _watch(self) -> None:
        if self._wanted and self._watching is None:
            self._watching = asyncio.create_task(self._look_after(), name="volume exports")

    async def _look_after(self) -> None:
        """Begin the daemon anew when it has died."""
        while True:
            await self._clock.sleep(WATCH_SECONDS)
            async with self._lock:
                try:
                    if self._wanted and not await self._alive():
                        log.warning("The daemon of volume exports has ended; it is begun anew.")
                        await self._settle(self._wanted, whole=True)
                except Fault as fault:
                    log.error("Volumes are not exported: %s", fault.message)

    async def _alive(self) -> bool:
        try:
            (await sockets.connect(self._directory / _CONTROL)).close()
        except OSError:
            return False
        return True

    async def _settle(
        self,
        wanted: Mapping[str, tuple[Path, dict[str, bool]]],
        *,
        whole: bool = False,
        last: bool = True,
    ) -> None:
        """``whole``: nothing else shall be exported. ``last``: the daemon may end."""
        if not await self._alive():
            if not any(exports for _, exports in wanted.values()):
                return
            await self._start()
        # Seldom needed, and slow to import.
        from kilonova.embedded.volume.daemon import speak  # noqa: PLC0415

        async with speak(self._directory / _CONTROL) as daemon:
            nodes = {_node(key): value for key, value in wanted.items()}
            await self._remove(daemon, nodes, whole=whole)
            present = {item["id"] for item in await daemon.ask("query-block-exports")}
            known = await daemon.nodes()
            for node, (file, exports) in nodes.items():
                if exports and node not in known:
                    await daemon.ask("blockdev-add", _block(node, file))
                for name, writable in exports.items():
                    if _export(name) not in present:
                        await daemon.ask("block-export-add", _wire(node, name, writable=writable))
            if last and not await daemon.ask("query-block-exports"):
                with contextlib.suppress(Unavailable):
                    await daemon.ask("quit")

    async def _remove(
        self,
        daemon: Daemon,
        nodes: Mapping[str, tuple[Path, dict[str, bool]]],
        *,
        whole: bool,
    ) -> None:
        for item in await daemon.ask("query-block-exports"):
            node, export = item["node-name"], item["id"]
            keep = {_export(name) for name in nodes[node][1]} if node in nodes else set()
            if export not in keep and (whole or node in nodes):
                await daemon.ask("block-export-del", {"id": export, "mode": "hard"})
        for node in await daemon.nodes():
            unused = node in nodes and not nodes[node][1]
            if unused or (whole and node not in nodes):
                await self._drop(daemon, node)

    async def _drop(self, daemon: Daemon, node: str) -> None:
        """Clients that are cut off hold a volume a moment longer."""
        pauses = backoff(0.02, most=0.5)
        for attempt in range(_TRIES):
            try:
                await daemon.ask("blockdev-del", {"node-name": node})
            except Unavailable:
                if attempt == _TRIES - 1:
                    raise
                await self._clock.sleep(next(pauses))
            else:
                return

    async def _start(self) -> None:
        self.key()
        creds = ",tls-creds=tls" if self.tls else ""
        address = f"addr.type=inet,addr.host={self.address},addr.port={self.port}"
        folder = str(self._directory).replace(",", ",,")
        with sockets.listen(self._directory / _CONTROL) as control:
            await programs.run(
                *(PROGRAM, "--daemonize", "--pidfile", str(self._directory / _PID)),
                *("--object", f"tls-creds-psk,id=tls,dir={folder},endpoint=server"),
                *("--chardev", f"socket,id=control,fd={control.fileno()},server=on,wait=off"),
                *("--monitor", "chardev=control"),
                *("--nbd-server", f"{address}{creds}"),
                seconds=START_SECONDS,
                pass_fds=(control.fileno(),),
            )
        log.info("Volumes are exported at %s:%d", self.address, self.port)


def _node(volume_id: str) -> str:
    """A name of 31 characters at most."""
    return f"v-{hashlib.blake2b(volume_id.encode(), digest_size=14).hexdigest()}"


def _export(name: str) -> str:
    return f"a-{name}"


def _block(node: str, file: Path) -> dict[str, Any]:
    return {
        "node-name": node,
        "driver": "raw",
        "discard": "unmap",
        # The attachments say who has the volume; a guest that moves here has it twice for a moment.
        "file": {
            "driver": "file",
            "filename": str(file),
            "discard": "unmap",
            "locking": "off",
        },
    }


def _wire(node: str, name: str, *, writable: bool) -> dict[str, Any]:
    return {
        "type": "nbd",
        "id": _export(name),
        "node-name": node,
        "name": name,
        "writable": writable,
    }
