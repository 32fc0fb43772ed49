"""A stand-in for the guest agent of QEMU, at the socket of its channel."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kilonova.base import sockets


class GuestAgent:
    """Answers on a listening socket as the agent inside a guest does.

    ``refuses``: what it says instead of setting a password. ``noise`` goes before its first words.
    """

    def __init__(self, *, refuses: str = "", noise: bytes = b"") -> None:
        self.passwords: dict[str, str] = {}
        self.frozen = False
        self.refuses = refuses
        self.noise = noise
        self.idle = asyncio.Event()
        self.idle.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.idle.clear()
        with contextlib.suppress(ConnectionError):
            writer.write(self.noise)
            while line := await reader.readline():
                writer.write(self.answer(json.loads(line.rpartition(b"\xff")[2])))
            writer.close()
            await writer.wait_closed()
        self.idle.set()

    def answer(self, asked: dict[str, Any]) -> bytes:
        """The bytes of an answer."""
        given = asked.get("arguments", {})
        if asked["execute"] == "guest-sync-delimited":
            return b"\xff" + json.dumps({"return": given["id"]}).encode() + b"\n"
        if asked["execute"].startswith("guest-fsfreeze-") and not self.refuses:
            self.frozen = asked["execute"].endswith("-freeze")
            return b'{"return": 1}\n'
        if self.refuses or asked["execute"] != "guest-set-user-password":
            told = {"class": "GenericError", "desc": self.refuses or "unknown"}
            return json.dumps({"error": told}).encode() + b"\n"
        self.passwords[given["username"]] = base64.b64decode(given["password"]).decode()
        return b'{"return": {}}\n'


@contextlib.asynccontextmanager
async def listening(path: Path, agent: GuestAgent) -> AsyncIterator[GuestAgent]:
    """The agent at that socket."""
    made = sockets.listen(path)
    server = await asyncio.start_unix_server(agent.serve, sock=made)
    try:
        yield agent
    finally:
        await agent.idle.wait()
        server.close()
        path.unlink(missing_ok=True)
