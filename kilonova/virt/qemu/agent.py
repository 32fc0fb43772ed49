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
from kilonova.base.errors import Conflict, NotSupported

SYNC_SECONDS = 5.0
COMMAND_SECONDS = 20.0
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
    try:
        link = await sockets.connect(socket)
    except OSError:
        raise _silent() from None
    reader, writer = await asyncio.open_unix_connection(sock=link, limit=LONGEST)
    try:
        async with asyncio.timeout(sync_seconds):
            await _synchronize(reader, writer)
        async with asyncio.timeout(seconds):
            writer.write(_line("guest-set-user-password", arguments))
            answer = await _answer(reader)
    except (TimeoutError, OSError, EOFError, asyncio.LimitOverrunError):
        raise _silent() from None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if "return" not in answer:
        told = answer.get("error")
        why = told.get("desc", "") if isinstance(told, dict) else ""
        log.info("A guest's agent did not set a password: %s", str(why)[:200])
        raise Conflict("error setting admin password")


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


def _silent() -> NotSupported:
    return NotSupported(
        "set_admin_password is not implemented by this driver or guest instance: its agent does "
        "not answer."
    )
