"""User-mode networking: forwarded ports, and the metadata socket of each guest."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import zlib
from collections.abc import Collection
from pathlib import Path

from kilonova.base import sockets
from kilonova.base.errors import Unavailable
from kilonova.domain.guest import GuestSpec
from kilonova.virt.driver import MetadataServer

MOST_CONNECTIONS = 16

log = logging.getLogger(__name__)


def choose_port(port_id: str, span: str, taken: Collection[int], wish: int = 0) -> int:
    """A free TCP port of 127.0.0.1: the wished one if it is free, else one made from the port's id.

    ``span`` is ``first:last``. Raises Unavailable when all are taken.
    """
    first, last = (int(word) for word in span.split(":"))
    size = last - first + 1
    start = zlib.crc32(port_id.encode())
    for candidate in (wish, *(first + (start + n) % size for n in range(size))):
        if candidate and candidate not in taken and _free(candidate):
            return candidate
    raise Unavailable(f"Every port of {span} on this host is taken.")


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class MetadataSocket:
    """Serves the connections QEMU's relay makes for one guest, so the guest is known for sure."""

    def __init__(self, path: Path, guest: GuestSpec, serve: MetadataServer) -> None:
        self._path = path
        self._guest = guest
        self._serve = serve
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; the socket's directory is private to the guest."""
        listener = sockets.listen(self._path)
        listener.setblocking(False)
        self._server = await asyncio.start_unix_server(self._on_connection, sock=listener)

    async def stop(self) -> None:
        """Listen no more and end what is open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            if len(self._tasks) <= MOST_CONNECTIONS:
                await self._serve(self._guest, reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        except Exception:
            log.exception("Metadata of %s could not be served", self._guest.name)
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
