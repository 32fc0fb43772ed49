"""Whether the user QEMU runs as under libvirt can reach what guests are made of."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from kilonova.base.errors import Unavailable
from kilonova.virt.libvirt.xml import Element

_LABEL = re.compile(r"^\+?(\d+):\+?(\d+)$")


def check(capabilities: Element, directory: Path) -> None:
    """Unavailable when a directory on the way to ``directory`` is closed to QEMU's user."""
    who = user(capabilities)
    if who is None or who[0] == 0:
        return
    for place in (directory, *directory.parents):
        if not _may_enter(place.stat(), *who):
            raise Unavailable(
                f"libvirt runs guests as user {who[0]}, who may not enter {place}: set [DEFAULT] "
                "instances_path to a directory everybody may enter, or user in libvirt's qemu.conf."
            )


def user(capabilities: Element) -> tuple[int, int] | None:
    """User and group id of guests' processes; None when libvirt does not tell."""
    for model in capabilities.iterfind("host/secmodel"):
        if model.findtext("model") == "dac":
            for label in model.iterfind("baselabel"):
                found = _LABEL.match(label.text or "")
                if found is not None:
                    return int(found[1]), int(found[2])
    return None


def _may_enter(place: os.stat_result, uid: int, gid: int) -> bool:
    if place.st_uid == uid:
        return bool(place.st_mode & stat.S_IXUSR)
    if place.st_gid == gid:
        return bool(place.st_mode & stat.S_IXGRP)
    return bool(place.st_mode & stat.S_IXOTH)
