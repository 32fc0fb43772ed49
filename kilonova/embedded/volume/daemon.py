"""Speaking to the daemon behind exported volumes, over its monitor (QMP)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from qemu.qmp import QMPClient, QMPError

from kilonova.base import sockets
from kilonova.base.errors import Unavailable

CONNECT_SECONDS = 20.0
ASK_SECONDS = 30.0

log = logging.getLogger(__name__)
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class Daemon:
    """The daemon, while it is spoken to."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def ask(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """The answer; Unavailable with the daemon's reason."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await self._client.execute(command, arguments)
        except (OSError, EOFError, QMPError, TimeoutError) as error:
            log.info("%s failed: %r", command, error)
            raise Unavailable(f"The volume cannot be exported: {error}") from error

    async def nodes(self) -> set[str]:
        """The names of our nodes."""
        found = await self.ask("query-named-block-nodes", {"flat": True})
        return {item["node-name"] for item in found if item["node-name"].startswith("v-")}


@contextlib.asynccontextmanager
async def speak(path: Path) -> AsyncIterator[Daemon]:
    """A daemon by its socket; Unavailable when it does not answer."""
    client = QMPClient()
    link = None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            link = await sockets.connect(path)
            await client.connect(link)
    except BaseException as error:
        with contextlib.suppress(Exception):
            await client.disconnect()
        if link is not None:
            link.close()
        if isinstance(error, (OSError, EOFError, QMPError, TimeoutError)):
            raise Unavailable("The daemon of volume exports does not answer.") from error
        raise
    try:
        yield Daemon(client)
    finally:
        with contextlib.suppress(Exception):
            await client.disconnect()
