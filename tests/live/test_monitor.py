"""What a monitor's connection carries beside words, on each event loop we run on."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from kilonova.virt.qemu.monitor import Monitor
from kilonova.web.serve import new_event_loop

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}


def _serve(listener: socket.socket, said: list[Any], held: list[int]) -> None:
    """A QEMU of few words: agrees to everything, and keeps the descriptors it is given."""
    link, _ = listener.accept()
    with link:
        link.sendall(json.dumps(GREETING).encode() + b"\r\n")
        rest = ""
        while True:
            data, fds, _, _ = socket.recv_fds(link, 65536, 4)
            held += fds
            if not data:
                return
            rest += data.decode()
            while rest := rest.lstrip():
                message, end = json.JSONDecoder().raw_decode(rest)
                rest = rest[end:]
                said.append((message["execute"], len(held)))
                answer = {"return": {}} | {k: v for k, v in message.items() if k == "id"}
                link.sendall(json.dumps(answer).encode() + b"\r\n")


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_descriptor_arrives_before_its_name(tmp_path: Path, kind: str) -> None:
    if kind == "uvloop":
        pytest.importorskip("uvloop")
    said: list[Any] = []
    held: list[int] = []
    path = tmp_path / "monitor.sock"

    async def talk() -> None:
        monitor = await Monitor.connect(path, lambda event, data: None, seconds=5)
        reader, writer = os.pipe()
        try:
            await monitor.give(writer, "card")
        finally:
            os.close(writer)
            os.close(reader)
            await monitor.close()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = threading.Thread(target=_serve, args=(listener, said, held))
        server.start()
        try:
            with asyncio.Runner(loop_factory=lambda: new_event_loop(kind)) as runner:
                runner.run(talk())
        finally:
            server.join(5)
            for fd in held:
                os.close(fd)
    assert len(held) == 1
    assert said[-1] == ("getfd", 1)
