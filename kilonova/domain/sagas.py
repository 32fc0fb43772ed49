"""The sagas the API starts: name and arguments, so that API and conductor agree."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from kilonova.base.registry import Registry
from kilonova.domain.server import WantedNic

A = TypeVar("A", bound=msgspec.Struct)

SAGAS: Registry[SagaKind[msgspec.Struct]] = Registry("saga")


class SagaKind(Generic[A]):
    """A saga's name, its arguments, and the instance action it is recorded as.

    ``cancels``: a living saga of the same server is asked to end first.
    """

    def __init__(self, name: str, args: type[A], *, action: str, cancels: bool = False) -> None:
        self.name = name
        self.args = args
        self.action = action
        self.cancels = cancels
        SAGAS.add(name, self)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"SagaKind({self.name})"


class ServerArgs(msgspec.Struct, frozen=True):
    """A saga about one server; everything else is read from the store."""

    server_id: str


class RebootArgs(msgspec.Struct, frozen=True):
    """``hard``: re-make the guest from its description instead of asking it."""

    server_id: str
    hard: bool = False


class DiskSaga(msgspec.Struct, frozen=True):
    """A saga about one disk of a server."""

    server_id: str
    disk_id: str


class SwapSaga(msgspec.Struct, frozen=True):
    """Another volume takes the place of a disk's; ``attachment_id`` is its reservation."""

    server_id: str
    disk_id: str
    volume_id: str
    attachment_id: str


class AttachArgs(msgspec.Struct, frozen=True):
    """A network card that shall come to a server."""

    server_id: str
    nic: WantedNic


class PortArgs(msgspec.Struct, frozen=True):
    """A network card of a server, by its port."""

    server_id: str
    port_id: str


class ImageSaga(msgspec.Struct, frozen=True):
    """A queued image that a server's disk shall fill."""

    server_id: str
    image_id: str


class BackupSaga(msgspec.Struct, frozen=True):
    """The same, and then only the ``rotation`` newest backups of its type are kept."""

    server_id: str
    image_id: str
    backup_type: str
    rotation: int


class UnshelveArgs(msgspec.Struct, frozen=True):
    """An offloaded server comes back: to ``host``, if one is named.

    ``repin``: from now on it is to be in ``zone`` (None: in any).
    """

    server_id: str
    host: str | None = None
    repin: bool = False
    zone: str | None = None


class SagaContext(msgspec.Struct, frozen=True):
    """Who asked for the work; no token."""

    request_id: str = ""
    global_request_id: str = ""
    user_id: str = ""
    project_id: str = ""
    roles: tuple[str, ...] = ()


BUILD = SagaKind("server.build", ServerArgs, action="create")
DELETE = SagaKind("server.delete", ServerArgs, action="delete", cancels=True)
START = SagaKind("server.start", ServerArgs, action="start")
STOP = SagaKind("server.stop", ServerArgs, action="stop")
REBOOT = SagaKind("server.reboot", RebootArgs, action="reboot")
ATTACH_VOLUME = SagaKind("server.attach_volume", DiskSaga, action="attach_volume")
DETACH_VOLUME = SagaKind("server.detach_volume", DiskSaga, action="detach_volume")
EXTEND_VOLUME = SagaKind("server.extend_volume", DiskSaga, action="extend_volume")
SWAP_VOLUME = SagaKind("server.swap_volume", SwapSaga, action="swap_volume")
PAUSE = SagaKind("server.pause", ServerArgs, action="pause")
UNPAUSE = SagaKind("server.unpause", ServerArgs, action="unpause")
SUSPEND = SagaKind("server.suspend", ServerArgs, action="suspend")
RESUME = SagaKind("server.resume", ServerArgs, action="resume")
SHELVE = SagaKind("server.shelve", ServerArgs, action="shelve")
SHELVE_VOLUMES = SagaKind("server.shelve_volumes", ServerArgs, action="shelve")
SHELVE_OFFLOAD = SagaKind("server.shelve_offload", ServerArgs, action="shelveOffload")
UNSHELVE = SagaKind("server.unshelve", UnshelveArgs, action="unshelve")
UNSHELVE_HERE = SagaKind("server.unshelve_here", ServerArgs, action="unshelve")
CRASH_DUMP = SagaKind("server.crash_dump", ServerArgs, action="trigger_crash_dump")
ATTACH_INTERFACE = SagaKind("server.attach_interface", AttachArgs, action="attach_interface")
DETACH_INTERFACE = SagaKind("server.detach_interface", PortArgs, action="detach_interface")
SOFT_DELETE = SagaKind("server.soft_delete", ServerArgs, action="delete", cancels=True)
RESTORE = SagaKind("server.restore", ServerArgs, action="restore")
CREATE_IMAGE = SagaKind("server.create_image", ImageSaga, action="createImage")
CREATE_BACKUP = SagaKind("server.create_backup", BackupSaga, action="createBackup")
