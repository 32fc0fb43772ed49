"""Which network devices a namespace has, and a wake-up when that changes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from kilonova.embedded.network.plane import netns

_RTMGRP_LINK = 1


class LinkWatch:
    """Calls ``wake`` whenever a device of the namespace appears, changes or goes (rtnetlink)."""

    def __init__(self, namespace: str | None, wake: Callable[[], None]) -> None:
        self._namespace = namespace
        self._wake = wake
        self._socket: socket.socket | None = None

    async def open(self) -> None:
        """Begin to listen; OSError or PlaneError when that cannot be done."""
        self._socket = await asyncio.to_thread(netns.run_in, self._namespace, _listen)
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    async def names(self) -> frozenset[str]:
        """The devices there are now."""
        return await asyncio.to_thread(netns.run_in, self._namespace, _names)

    def _read(self) -> None:
        assert self._socket is not None
        # What changed does not matter, nor that messages were lost (ENOBUFS): look again.
        with contextlib.suppress(OSError):
            while self._socket.recv(65536):
                pass
        self._wake()


def _listen() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    made.bind((0, _RTMGRP_LINK))
    made.setblocking(False)
    return made


def _names() -> frozenset[str]:
    return frozenset(name for _, name in socket.if_nameindex())
