"""Volumes that the host has to open before QEMU can: Fibre Channel, NVMe, multipath."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
from typing import Any

from kilonova.base import programs
from kilonova.base.errors import NotSupported, Unavailable
from kilonova.config.settings import Settings
from kilonova.domain.guest import Disk

SECONDS = 300.0
MODULE = "kilonova.virt.brickhelper"

log = logging.getLogger(__name__)


class Brick:
    """os-brick on this host, when ``[cinder] os_brick`` says so.

    It runs as root: directly when the agent is root, else by ``sudo -n``.
    """

    def __init__(self, settings: Settings, host: str) -> None:
        self._settings = settings
        self._host = host
        self._facts: dict[str, Any] | None = None

    def opens(self, disk: Disk, *, by_qemu: bool) -> bool:
        """Whether the host opens a volume. ``by_qemu``: QEMU could, which knows one path only."""
        kind = (disk.connection or {}).get("driver_volume_type")
        if not self._settings.cinder.os_brick or kind is None:
            return False
        return not by_qemu or (kind == "iscsi" and self._settings.libvirt.volume_use_multipath)

    async def facts(self) -> dict[str, Any]:
        """What storage is told of this host beside its name and address; asked for once."""
        if not self._settings.cinder.os_brick:
            return {}
        if self._facts is None:
            try:
                self._facts = await self._ask("connector")
            except (Unavailable, NotSupported) as fault:
                log.error("This host cannot say how storage knows it: %s", fault.message)
                self._facts = {}
        return self._facts

    async def connect(self, disk: Disk) -> str:
        """The path of a volume's device, connected to this host; Unavailable, NotSupported."""
        answer = await self._ask("connect", **_of(disk))
        path = answer.get("path")
        if not isinstance(path, str) or not path.startswith("/"):
            raise Unavailable(f"Volume {disk.volume_id} was connected, but nobody knows where.")
        return path

    async def disconnect(self, disk: Disk, path: str) -> None:
        """End the host's use of a volume; nothing there is success."""
        await self._ask("disconnect", path=path, **_of(disk))

    async def extend(self, disk: Disk) -> None:
        """Let the host see a volume's new size."""
        await self._ask("extend", **_of(disk))

    async def _ask(self, action: str, **more: Any) -> dict[str, Any]:
        if importlib.util.find_spec("os_brick") is None:
            raise NotSupported("[cinder] os_brick needs the library: install kilonova[openstack].")
        options = self._settings.libvirt
        wanted = {
            "action": action,
            "ip": self._settings.default.my_ip,
            "host": self._host,
            "multipath": options.volume_use_multipath,
            "enforce_multipath": options.volume_enforce_multipath,
            "tries": options.num_volume_scan_tries,
            **more,
        }
        root = () if os.geteuid() == 0 else ("sudo", "-n")
        said = await programs.run(
            *root,
            *(sys.executable, "-m", MODULE),
            seconds=SECONDS,
            given=json.dumps(wanted).encode(),
        )
        try:
            answer = json.loads(said)
        except ValueError:
            raise Unavailable(f"os-brick did not answer to {action}.") from None
        return answer if isinstance(answer, dict) else {}


def _of(disk: Disk) -> dict[str, Any]:
    connection = disk.connection or {}
    return {"kind": connection["driver_volume_type"], "data": connection.get("data", {})}
