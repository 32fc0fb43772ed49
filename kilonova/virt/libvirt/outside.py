"""What is done with libvirt without a driver: asking whether it is there, ending guests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt

from kilonova.base.errors import Unavailable
from kilonova.virt.libvirt import domains, events

SYSTEM = "qemu:///system"


def why_not(uri: str | None) -> str | None:
    """Why guests cannot be made by that libvirt (None: the system's); None when they can."""
    try:
        with _opened(uri):
            return None
    except libvirt.libvirtError as error:
        return str(error.get_error_message())


def end_guests(uri: str | None, directory: Path) -> list[str]:
    """Remove every domain whose guest is kept below ``directory``; the servers' ids.

    Unavailable when libvirt does not answer.
    """
    try:
        with _opened(uri) as connection:
            found = list(domains.ours(connection, str(directory)))
            for server_id in found:
                domains.remove(connection, server_id)
            return found
    except libvirt.libvirtError as error:
        raise Unavailable(f"libvirt failed: {error.get_error_message()}") from error


@contextlib.contextmanager
def _opened(uri: str | None) -> Iterator[Any]:
    events.run()
    connection = libvirt.open(uri or SYSTEM)
    try:
        yield connection
    finally:
        connection.close()
