"""What is asked of libvirt about domains; functions for threads, with an open connection."""

from __future__ import annotations

import contextlib
from typing import Any

import libvirt
import msgspec

from kilonova.domain.guest import PowerState
from kilonova.virt.libvirt import xml
from kilonova.virt.libvirt.domain_xml import OURS

END_TRIES = 3
UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)
POWER = {
    libvirt.VIR_DOMAIN_RUNNING: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: PowerState.SHUTDOWN,
    libvirt.VIR_DOMAIN_SHUTOFF: PowerState.SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: PowerState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.SUSPENDED,
}
INACTIVE = frozenset({libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED})


class Live(msgspec.Struct, frozen=True):
    """A domain's state and the reason for it, in libvirt's numbers."""

    state: int
    reason: int

    @property
    def active(self) -> bool:
        """Whether it has a process."""
        return self.state not in INACTIVE

    @property
    def power(self) -> PowerState:
        """As users see it."""
        if self.crashed:
            return PowerState.CRASHED
        return POWER.get(self.state, PowerState.NOSTATE)

    @property
    def crashed(self) -> bool:
        """Whether its process ended without anybody having wished it."""
        return (self.state, self.reason) == (
            libvirt.VIR_DOMAIN_SHUTOFF,
            libvirt.VIR_DOMAIN_SHUTOFF_CRASHED,
        )


def states(connection: Any) -> dict[str, Live]:
    """Every domain of the host by its UUID, ours or not."""
    found = {}
    for domain in connection.listAllDomains(0):
        with _UnlessGone():
            found[domain.UUIDString()] = Live(*domain.state()[:2])
    return found


def look(connection: Any, server_id: str) -> Live | None:
    """One domain; None when there is none."""
    domain = find(connection, server_id)
    if domain is not None:
        with _UnlessGone():
            return Live(*domain.state()[:2])
    return None


def find(connection: Any, server_id: str) -> Any:
    """The domain with that UUID; None when there is none."""
    with _UnlessGone():
        return connection.lookupByUUIDString(server_id)
    return None


def start(connection: Any, definition: str, *, paused: bool) -> None:
    """Define it (again) and start it."""
    domain = connection.defineXML(definition)
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED if paused else 0)


def end(connection: Any, server_id: str) -> None:
    """Take its power away; one that is off or not there is left."""
    domain = find(connection, server_id)
    for left in reversed(range(END_TRIES)):
        if domain is None or not domain.isActive():
            return
        try:
            domain.destroy()
        except libvirt.libvirtError as error:
            # A busy host may need longer to end the process than libvirt waits.
            off = error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID
            if not left and not off:
                raise


def put_to_sleep(connection: Any, server_id: str) -> None:
    """Save its memory and end it; what was saved by an earlier try counts."""
    domain = connection.lookupByUUIDString(server_id)
    if domain.isActive():
        domain.managedSave(libvirt.VIR_DOMAIN_SAVE_RUNNING)
    elif not domain.hasManagedSaveImage():
        domain.managedSave()  # says in libvirt's words that it is off


def wake(connection: Any, server_id: str) -> None:
    """Let it go on with the memory that was saved; one that does so already is left."""
    domain = connection.lookupByUUIDString(server_id)
    if not domain.isActive():
        domain.create()


def forget_memory(connection: Any, server_id: str) -> None:
    """What was saved is not wanted any more; nothing there is success."""
    domain = find(connection, server_id)
    if domain is not None and domain.hasManagedSaveImage():
        domain.managedSaveRemove()


def remove(connection: Any, server_id: str) -> None:
    """End it and forget it; nothing there is success."""
    end(connection, server_id)
    domain = find(connection, server_id)
    if domain is not None:
        with _UnlessGone():
            domain.undefineFlags(UNDEFINE)


def description(connection: Any, server_id: str) -> xml.Element:
    """The domain as it is now."""
    return xml.read(connection.lookupByUUIDString(server_id).XMLDesc(0))


def ours(connection: Any, directory: str) -> dict[str, str]:
    """UUID → name of every domain whose guest is kept below ``directory``."""
    found = {}
    for domain in connection.listAllDomains(0):
        try:
            kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
            place = xml.read(domain.metadata(kind, OURS)).get("directory", "")
        except libvirt.libvirtError:
            continue
        if place.startswith(f"{directory}/"):
            found[domain.UUIDString()] = domain.name()
    return found


class _UnlessGone(contextlib.AbstractContextManager[None]):
    """Suppresses libvirt's word that there is no such domain."""

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        gone = libvirt.VIR_ERR_NO_DOMAIN
        return isinstance(error, libvirt.libvirtError) and error.get_error_code() == gone
