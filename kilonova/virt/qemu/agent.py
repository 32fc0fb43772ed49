"""The guest agent of QEMU, spoken to over the socket of its channel.

Source: QEMU's documentation, "QEMU Guest Agent Protocol Reference".
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import secrets
from pathlib import Path
from typing import Any

import msgspec

from kilonova.base import sockets
from kilonova.base.errors import Conflict, NotSupported, Unavailable

SYNC_SECONDS = 5.0
COMMAND_SECONDS = 20.0
FREEZE_SECONDS = 60.0
DELIMITER = b"\xff"
LONGEST = 1 << 20

log = logging.getLogger(__name__)


async def set_password(
    socket: Path,
    user: str,
    password: str,
    *,
    sync_seconds: float = SYNC_SECONDS,
    seconds: float = COMMAND_SECONDS,
) -> None:
    """Give a user of the guest another password.

    NotSupported when no agent answers, Conflict when it refuses.
    """
    given = base64.b64encode(password.encode()).decode()
    arguments = {"username": user, "password": given, "crypted": False}
    command = "guest-set-user-password"
    answer = await _ask(socket, command, arguments, sync_seconds=sync_seconds, seconds=seconds)
    if answer is None:
        raise NotSupported(
            "set_admin_password is not implemented by this driver or guest instance: its agent "
            "does not answer."
        )
    if "return" not in answer:
        log.info("A guest's agent did not set a password: %s", _why(answer))
        raise Conflict("error setting admin password")


async def freeze(socket: Path) -> None:
    """Have the guest's file systems written out and stand still; Unavailable, Conflict."""
    await _still(socket, "guest-fsfreeze-freeze")


async def thaw(socket: Path) -> None:
    """Let them go on; those that do are left."""
    await _still(socket, "guest-fsfreeze-thaw")


async def _still(socket: Path, command: str) -> None:
    answer = await _ask(socket, command, sync_seconds=SYNC_SECONDS, seconds=FREEZE_SECONDS)
    if answer is None:
        raise Unavailable("The agent inside the guest does not answer.")
    if "return" not in answer:
        raise Conflict(f"The agent inside the guest refused {command}: {_why(answer)}")


async def _ask(
    socket: Path,
    command: str,
    arguments: dict[str, Any] | None = None,
    *,
    sync_seconds: float,
    seconds: float,
) -> dict[str, Any] | None:
    """What the agent answers; None when it does not."""
    try:
        link = await sockets.connect(socket)
    except OSError:
        return None
    reader, writer = await asyncio.open_unix_connection(sock=link, limit=LONGEST)
    try:
        async with asyncio.timeout(sync_seconds):
            await _synchronize(reader, writer)
        async with asyncio.timeout(seconds):
            writer.write(_line(command, arguments or {}))
            return await _answer(reader)
    except (TimeoutError, OSError, EOFError, asyncio.LimitOverrunError):
        return None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _why(answer: dict[str, Any]) -> str:
    told = answer.get("error")
    return str(told.get("desc", "") if isinstance(told, dict) else "")[:200]


async def _synchronize(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Get past whatever an earlier caller left unread on either side."""
    mark = secrets.randbelow(1 << 31)
    writer.write(DELIMITER + _line("guest-sync-delimited", {"id": mark}))
    while True:
        await reader.readuntil(DELIMITER)
        if (await _answer(reader)).get("return") == mark:
            return


async def _answer(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next line that is JSON."""
    while True:
        line = await reader.readuntil(b"\n")
        try:
            return msgspec.json.decode(line.rpartition(DELIMITER)[2], type=dict[str, Any])
        except msgspec.MsgspecError:
            continue


def _line(command: str, arguments: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"execute": command, "arguments": arguments}) + b"\n"
