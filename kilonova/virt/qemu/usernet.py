"""User-mode networking: forwarded ports, and the metadata socket of each guest."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from kilonova.base import sockets
from kilonova.domain.guest import GuestSpec
from kilonova.virt.driver import MetadataServer

MOST_CONNECTIONS = 16

log = logging.getLogger(__name__)


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
