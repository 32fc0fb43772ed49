"""Keys of volumes given to libvirt and taken back; functions for threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import libvirt

from kilonova.base.errors import Unavailable
from kilonova.virt.disks import DiskFile
from kilonova.virt.libvirt import secret_xml, xml


def give(connection: Any, files: Iterable[DiskFile]) -> None:
    """Have libvirt know the keys of these volumes; Unavailable when one cannot be read."""
    for file in files:
        wanted = secret_xml.key(file)
        if wanted is None:
            continue
        try:
            value = wanted.value()
        except (OSError, ValueError) as error:
            raise Unavailable("The key of a volume cannot be read on this host.") from error
        made = connection.secretDefineXML(xml.text(secret_xml.definition(wanted)))
        made.setValue(value)


def take_back(connection: Any, files: Iterable[DiskFile]) -> None:
    """Have libvirt forget them; not there is success."""
    for file in files:
        if file.objects:
            wanted = secret_xml.key(file)
            assert wanted is not None
            with contextlib.suppress(libvirt.libvirtError):
                connection.secretLookupByUUIDString(wanted.uuid).undefine()
