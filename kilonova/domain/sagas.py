"""The sagas the API starts: name and arguments, so that API and conductor agree."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from kilonova.base.registry import Registry
from kilonova.domain.guest import FlavorSpec, ImageRef
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


class RebuildArgs(msgspec.Struct, frozen=True):
    """A server is made anew, from the image its row names by now.

    ``former``: what it was made from, when that was something else; the host is asked whether it
    does for the new image. ``stopped``: it shall be off at the end. ``root``: its root volume, if
    that is to be written anew.
    """

    server_id: str
    former: Former | None = None
    stopped: bool = False
    preserve_ephemeral: bool = False
    root: Reimage | None = None


class Former(msgspec.Struct, frozen=True):
    """What a server was made from before: an image, or the ``properties`` of its root volume's."""

    image: ImageRef | None = None
    properties: dict[str, str] = {}


class Reimage(msgspec.Struct, frozen=True):
    """A root volume that gets an image's data, which may take that many ``seconds``."""

    disk_id: str
    image: ImageRef
    seconds: float


class RescueArgs(msgspec.Struct, frozen=True):
    """A server starts from ``image`` for a while; ``named``: the image the user asked for."""

    server_id: str
    image: ImageRef
    named: str | None = None


class SnapshotSaga(msgspec.Struct, frozen=True):
    """A snapshot of a server's volume that the volume service wants; ``file`` is to be its own."""

    server_id: str
    disk_id: str
    snapshot_id: str
    file: str


class MergeSaga(msgspec.Struct, frozen=True):
    """Such a snapshot goes; ``file`` and ``into`` as in ``operations.MergeVolume``."""

    server_id: str
    disk_id: str
    snapshot_id: str
    file: str | None = None
    into: str | None = None


class ShareSaga(msgspec.Struct, frozen=True):
    """A saga about one file share of a server."""

    server_id: str
    share_id: str


class AttachArgs(msgspec.Struct, frozen=True):
    """A network card that shall come to a server."""

    server_id: str
    nic: WantedNic


class PortArgs(msgspec.Struct, frozen=True):
    """A network card of a server, by its port."""

    server_id: str
    port_id: str


class ResizeArgs(msgspec.Struct, frozen=True):
    """Another flavor for a server."""

    server_id: str
    flavor: FlavorSpec


class MigrateArgs(msgspec.Struct, frozen=True):
    """Another host for a server: a named one, or the scheduler's choice."""

    server_id: str
    host: str | None = None


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


class LiveArgs(msgspec.Struct, frozen=True):
    """Another host for a server whose guest runs on.

    ``host``: that one, checked by the scheduler unless ``force``. ``block`` and ``over_commit`` as
    in ``domain.live.LiveSuits``.
    """

    server_id: str
    host: str | None = None
    block: bool | None = None
    over_commit: bool = True
    force: bool = False


class EvacuateArgs(msgspec.Struct, frozen=True):
    """A server made anew elsewhere, as its host is down; ``off``: it is not started there."""

    server_id: str
    uuid: str
    host: str | None = None
    force: bool = False
    off: bool = False


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
SNAPSHOT_VOLUME = SagaKind("server.snapshot_volume", SnapshotSaga, action="volume_snapshot_create")
MERGE_VOLUME = SagaKind("server.merge_volume", MergeSaga, action="volume_snapshot_delete")
ATTACH_SHARE = SagaKind("server.attach_share", ShareSaga, action="attach_share")
DETACH_SHARE = SagaKind("server.detach_share", ShareSaga, action="detach_share")
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
REBUILD = SagaKind("server.rebuild", RebuildArgs, action="rebuild")
RESCUE = SagaKind("server.rescue", RescueArgs, action="rescue")
UNRESCUE = SagaKind("server.unrescue", ServerArgs, action="unrescue")
SET_PASSWORD = SagaKind("server.set_password", ServerArgs, action="changePassword")
RESIZE = SagaKind("server.resize", ResizeArgs, action="resize")
MIGRATE = SagaKind("server.migrate", MigrateArgs, action="migrate")
CONFIRM_RESIZE = SagaKind("server.confirm_resize", ServerArgs, action="confirmResize")
REVERT_RESIZE = SagaKind("server.revert_resize", ServerArgs, action="revertResize")
LIVE_MIGRATE = SagaKind("server.live_migrate", LiveArgs, action="live-migration")
EVACUATE = SagaKind("server.evacuate", EvacuateArgs, action="evacuate", cancels=True)
