"""Asking the QEMU guest agent inside a guest to freeze its file systems, and to let them go on.

Source: the QEMU Guest Agent Protocol Reference (docs/interop/qemu-ga-ref).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kilonova.base import sockets
from kilonova.base.errors import Unavailable

ANSWER_SECONDS = 5.0
FREEZE_SECONDS = 60.0
LONGEST_LINE = 64 << 10
# A byte that no JSON has: what the agent read before is forgotten, what it says before is skipped.
_DELIMITER = b"\xff"
_SYNC_ID = 0x6B696C6F


async def freeze(socket: Path) -> int:
    """Freeze all file systems of a guest; how many. Unavailable when nobody answers in there."""
    return int(await _ask(socket, "guest-fsfreeze-freeze", seconds=FREEZE_SECONDS))


async def thaw(socket: Path) -> int:
    """Let all go on; how many had to be told."""
    return int(await _ask(socket, "guest-fsfreeze-thaw", seconds=FREEZE_SECONDS))


async def _ask(socket: Path, command: str, *, seconds: float) -> Any:
    try:
        async with _connected(socket) as (reader, writer):
            async with asyncio.timeout(ANSWER_SECONDS):
                await _synchronise(reader, writer)
            writer.write(_line(command))
            async with asyncio.timeout(seconds):
                answer = _read(await reader.readline())
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
        raise Unavailable("The agent inside the guest does not answer.") from error
    if "return" not in answer:
        words = answer.get("error", {})
        said = words.get("desc", "") if isinstance(words, dict) else ""
        raise Unavailable(f"The agent inside the guest refused {command}: {said}")
    return answer["return"]


async def _synchronise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Come to terms about where an answer begins, whatever was half said before."""
    writer.write(_DELIMITER + _line("guest-sync-delimited", id=_SYNC_ID))
    while True:
        await reader.readuntil(_DELIMITER)
        if _read(await reader.readline()).get("return") == _SYNC_ID:
            return


@contextlib.asynccontextmanager
async def _connected(
    path: Path,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(
        sock=await sockets.connect(path), limit=LONGEST_LINE
    )
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _line(command: str, **arguments: Any) -> bytes:
    asked: dict[str, Any] = {"execute": command}
    if arguments:
        asked["arguments"] = arguments
    return json.dumps(asked).encode() + b"\n"


def _read(line: bytes) -> dict[str, Any]:
    answer = json.loads(line.lstrip(_DELIMITER))
    if not isinstance(answer, dict):
        raise ValueError("no object")
    return answer
