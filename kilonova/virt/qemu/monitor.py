"""The QMP connection to one guest: commands with time limits, and events as they come."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, QMPClient, QMPError, Runstate

from kilonova.base import sockets
from kilonova.base.errors import Unavailable

COMMAND_SECONDS = 30.0

log = logging.getLogger(__name__)
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)

OnEvent = Callable[[str, dict[str, Any]], None]


class _Listener(EventListener):  # type: ignore[misc]
    def __init__(self, on_event: OnEvent) -> None:
        super().__init__()
        self._on_event = on_event

    async def put(self, event: Any) -> None:
        """Hand the event on at once instead of queueing it."""
        self._on_event(event["event"], event.get("data", {}))


class Monitor:
    """A connected monitor. ``lost`` is done when the connection is."""

    def __init__(self, client: Any, link: socket.socket) -> None:
        """``link`` is our own handle of the client's connection."""
        self._client = client
        self._link = link
        self.lost = asyncio.create_task(_watch(client))
        self.lost.add_done_callback(lambda _: link.close())

    @classmethod
    async def connect(cls, path: Path, on_event: OnEvent, *, seconds: float) -> Monitor:
        """Connect and negotiate; Unavailable when QEMU does not answer in time."""
        client = QMPClient()
        client.register_listener(_Listener(on_event))
        link: socket.socket | None = None
        own: socket.socket | None = None
        try:
            async with asyncio.timeout(seconds):
                link = await sockets.connect(path)
                own = link.dup()
                await client.connect(link)
        except BaseException as error:
            # Also when the work is given up: the library lets go only of what it has taken over.
            try:
                with contextlib.suppress(Exception):
                    await client.disconnect()
            finally:
                for each in (link, own):
                    if each is not None:
                        each.close()
            if isinstance(error, (OSError, EOFError, QMPError, TimeoutError)):
                raise Unavailable("The guest's monitor does not answer.") from error
            raise
        return cls(client, own)

    async def execute(
        self, command: str, arguments: dict[str, Any] | None = None, *, seconds: float | None = None
    ) -> Any:
        """The answer to a command; Unavailable when it is refused or does not come."""
        try:
            async with asyncio.timeout(seconds or COMMAND_SECONDS):
                return await self._client.execute(command, arguments)
        except (OSError, EOFError, QMPError, TimeoutError) as error:
            log.info("QMP %s failed: %r", command, error)
            raise Unavailable(f"The guest's monitor did not do {command}.") from error

    async def give(self, fd: int, name: str) -> None:
        """Send a descriptor along with ``getfd``."""
        try:
            # The library's own way needs a socket that only asyncio's own loop shows.
            socket.send_fds(self._link, [b" "], [fd])
        except OSError as error:
            raise Unavailable("The guest's monitor takes no descriptors.") from error
        await self.execute("getfd", {"fdname": name})

    async def close(self) -> None:
        """Disconnect; the guest goes on."""
        try:
            with contextlib.suppress(Exception):
                await self._client.disconnect()
        finally:
            self._link.close()
            self.lost.cancel()
        await asyncio.wait({self.lost})


async def _watch(client: Any) -> None:
    while client.runstate == Runstate.RUNNING:
        await client.runstate_changed()
    with contextlib.suppress(Exception):
        await client.disconnect()
