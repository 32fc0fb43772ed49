"""Scenarios of the server sagas."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from kilonova.db.database import Tx
from kilonova.domain.fit.host import Wanted
from kilonova.domain.fit.shapes import GuestCell, GuestTopology, HostCell, HostShape
from kilonova.domain.guest import Disk, HostReport
from kilonova.domain.request import RequestSpec, Selection
from kilonova.domain.resources import Group, ShareMapping
from kilonova.domain.sagas import (
    ATTACH_INTERFACE,
    ATTACH_SHARE,
    ATTACH_VOLUME,
    CRASH_DUMP,
    DETACH_INTERFACE,
    DETACH_SHARE,
    DETACH_VOLUME,
    EXTEND_VOLUME,
    MERGE_VOLUME,
    PAUSE,
    REBOOT,
    RESTORE,
    SNAPSHOT_VOLUME,
    SOFT_DELETE,
    START,
    STOP,
    SWAP_VOLUME,
    UNPAUSE,
    AttachArgs,
    DiskSaga,
    MergeSaga,
    PortArgs,
    RebootArgs,
    SagaKind,
    ServerArgs,
    ShareSaga,
    SnapshotSaga,
    SwapSaga,
)
from kilonova.domain.server import BuildRequest, BuildSpec, WantedNic
from kilonova.domain.states import Task
from kilonova.interfaces.network import Port
from kilonova.store import block_devices, groups, holds, nodes, servers, shares
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.harness import scenario
from tests.sagas.cloud import GIVEN, CloudStage, opened, provider
from tests.support import compute


def stage(kind: type[CloudStage]) -> Any:
    """What opens a stage of that kind."""

    def enter() -> contextlib.AbstractAsyncContextManager[CloudStage]:
        return opened(kind())

    return enter


class Build(CloudStage):
    async def start(self) -> tuple[str, str]:
        return await self.create()


class GivenPort(Build):
    nics = (WantedNic("0", port_id=GIVEN),)
    owner = ""

    async def open(self) -> None:
        await super().open()
        self.network.table[GIVEN] = Port(
            GIVEN, "n1", "p1", "fa:16:3e:00:00:01", device_id=self.owner
        )


class TakenPort(GivenPort):
    owner = "00000000-0000-4000-8000-00000000beef"

    async def audit(self) -> list[str]:
        left = [p for p in await super().audit() if not p.startswith(f"port.orphan {GIVEN}")]
        port = self.network.table[GIVEN]
        return left if port.device_id == self.owner else [*left, "somebody's port was taken away"]


class AutoNetwork(Build):
    nics = (WantedNic("0", auto=True),)


class FirstHostBroken(Build):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("spawn", on="h1", times=None, late=True)


class FirstHostDies(Build):
    async def open(self) -> None:
        await super().open()
        await self.dies("h1")


class NoHost(Build):
    hosts = ()


class InGroup(Build):
    """An anti-affinity group whose other members came while the scheduler did not look."""

    others: tuple[str, ...] = ("h1",)

    async def prepare(self) -> None:
        await super().prepare()
        await self.api.run(self._join)

    def _join(self, tx: Tx) -> None:
        group = Group("g1", "g", "p1", "u1", "anti-affinity", {})
        groups.create(tx, group, now=self.clock.now(), limit=9)
        groups.add_members(tx, "g1", [self.server], limit=9)
        for number, host in enumerate(self.others, 2):
            assert groups.take_place(tx, "g1", compute.server_id(number), host) is None

    async def open(self) -> None:
        await super().open()
        self.looked = False

    def request(self) -> tuple[BuildRequest, BuildSpec]:
        request, spec = super().request()
        return request, msgspec.structs.replace(spec, group_id="g1")

    async def select(self, request: RequestSpec) -> Selection:
        assert request.group is not None
        chosen = await super().select(request)
        stale, self.looked = not self.looked, True
        if stale:
            return Selection((chosen.servers[0][:1],))
        counts = request.group.counts
        left = tuple(ref for ref in chosen.servers[0] if not counts.get(ref.host))
        return Selection((left,) if left else ())

    async def outcome(self) -> Any:
        return await super().outcome() | {"counts": await self.api.read(groups.counts, "g1")}

    async def audit(self) -> list[str]:
        # The other members are places only, without servers.
        there = {compute.server_id(number) for number, _ in enumerate(self.others, 2)}
        return [p for p in await super().audit() if p.split()[1].rstrip(":") not in there]


class FullGroup(InGroup):
    others = ("h1", "h2")


class BrokenInGroup(InGroup):
    others = ()

    async def open(self) -> None:
        await super().open()
        self.fakes.fails("spawn", on="h1", times=None)

    async def select(self, request: RequestSpec) -> Selection:
        return await CloudStage.select(self, request)


class Pinned(Build):
    """A guest that wants CPUs of its own, of which the first host has too few left."""

    async def prepare(self) -> None:
        await super().prepare()
        await self.cell.run(self._full)

    def _host(self, tx: Tx, host: str) -> None:
        super()._host(tx, host)
        cells = (HostCell(0, 8192, pcpus=frozenset(range(4))),)
        report = HostReport(host, "fake", 1, 8, 8192, 100, pcpus=4, shape=HostShape(cells))
        nodes.save(tx, uuid=provider(host), host=host, report=report, now=self.clock.now())

    def _full(self, tx: Tx) -> None:
        row = GuestTopology((GuestCell(0, 64, pcpus=frozenset({0, 1, 2, 3})),), "dedicated")
        other = compute.server_id(2)
        wanted = Wanted(row)
        assert holds.take(tx, other, wanted, host="h1", node="h1", now=self.clock.now())

    def request(self) -> tuple[BuildRequest, BuildSpec]:
        request, spec = super().request()
        specs = {"hw:cpu_policy": "dedicated", "hw:emulator_threads_policy": "isolate"}
        flavor = msgspec.structs.replace(request.server.flavor, extra_specs=specs)
        server = msgspec.structs.replace(request.server, flavor=flavor)
        return msgspec.structs.replace(request, server=server), spec

    async def outcome(self) -> Any:
        held = await self.cell.read(holds.of_hosts, ["h1", "h2"])
        return await super().outcome() | {"held": msgspec.to_builtins(held)}

    async def audit(self) -> list[str]:
        other = compute.server_id(2)
        known = (f"hold.left {other}", "allocation.amount")  # the stage claims plain vCPUs
        return [p for p in await super().audit() if not p.startswith(known)]


class NeverOpened(Build):
    nics = (WantedNic("0", network_id="n1"),)
    hosts = ("h1",)

    async def open(self) -> None:
        await super().open()
        self.network.opens = False
        default = msgspec.structs.replace(self.settings.default, vif_plugging_timeout=3)
        self.settings = msgspec.structs.replace(self.settings, default=default)


class There(CloudStage):
    """A server is there already."""

    nics: tuple[WantedNic, ...] = (WantedNic("0", network_id="n1"),)

    async def prepare(self) -> None:
        await super().prepare()
        await self.create()
        await Runner(self.kit()).drain()


class Delete(There):
    async def start(self) -> tuple[str, str]:
        return await self.delete()


class PinnedDelete(Pinned, There):
    async def prepare(self) -> None:
        await CloudStage.prepare(self)
        await self.create()
        await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        return await self.delete()


class DeleteInGroup(InGroup, Delete):
    others = ()

    async def prepare(self) -> None:
        await CloudStage.prepare(self)
        await self.api.run(self._join)
        self.looked = False
        await self.create()
        await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        return await self.delete()


class DeleteBuried(Delete):
    hosts = ()


class DeleteOnDeadHost(Delete):
    async def start(self) -> tuple[str, str]:
        await self.dies("h1")
        return await self.delete()


class Stop(There):
    async def start(self) -> tuple[str, str]:
        return await self.act(STOP, ServerArgs(self.server), "os-stop", Task.POWERING_OFF)


class Start(There):
    async def prepare(self) -> None:
        await super().prepare()
        await self.act(STOP, ServerArgs(self.server), "os-stop", Task.POWERING_OFF)
        await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        return await self.act(START, ServerArgs(self.server), "os-start", Task.POWERING_ON)


class SoftReboot(There):
    hard = False

    async def start(self) -> tuple[str, str]:
        return await self.act(
            REBOOT, RebootArgs(self.server, self.hard), "reboot-soft", Task.REBOOTING
        )


class HardReboot(SoftReboot):
    hard = True


class FailingReboot(HardReboot):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("reboot", times=None)


def volume_disk(number: int, **values: Any) -> Disk:
    """A disk on the volume v1, v2, or on one to be made."""
    given: dict[str, Any] = {
        "role": "volume",
        "device": f"vd{'abc'[number]}",
        "size_mb": 1024,
        "format": "raw",
        "delete_on_termination": False,
        **values,
    }
    return Disk(id=f"disk-{number}", source="volume", **given)


def on_volumes(asked: tuple[BuildRequest, BuildSpec]) -> tuple[BuildRequest, BuildSpec]:
    """The root disk is a volume made from an image, another volume is given."""
    request, spec = asked
    root = volume_disk(
        0, role="root", boot_index=0, origin="image", origin_id="i", delete_on_termination=True
    )
    disks = (root, volume_disk(1, volume_id="v1"))
    private = msgspec.structs.replace(request.private, disks=disks)
    server = msgspec.structs.replace(request.server, image=None)
    return msgspec.structs.replace(request, private=private, server=server), spec


class OnVolumes(Build):
    """What it starts from is made, what else it has was given."""

    async def prepare(self) -> None:
        await super().prepare()
        self.volumes.add("v1")

    def request(self) -> tuple[BuildRequest, BuildSpec]:
        return on_volumes(super().request())

    async def create(self) -> tuple[str, str]:
        await self.volumes.reserve("v1", self.server)
        return await super().create()


class OnVolumesFirstHostBroken(OnVolumes):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("spawn", on="h1", times=None, late=True)


class OnBrokenVolume(OnVolumes):
    async def open(self) -> None:
        await super().open()
        self.volumes.broken = True


class ThereWithVolumes(There):
    """A server with a given volume is there, and another volume."""

    def request(self) -> tuple[BuildRequest, BuildSpec]:
        return on_volumes(super().request())

    async def prepare(self) -> None:
        self.volumes.add("v1")
        self.volumes.add("v2")
        await self.volumes.reserve("v1", self.server)
        await super().prepare()

    async def disk(self, kind: SagaKind[Any], disk_id: str) -> tuple[str, str]:
        """The API's part of a saga about one disk."""
        args = DiskSaga(self.server, disk_id)
        return await self.act(kind, args, "attach_volume", None)


class RebootWithoutVolume(ThereWithVolumes):
    """The volume service knows nothing of the volume any more; another use has no disk."""

    async def start(self) -> tuple[str, str]:
        for use in await self.volumes.attachments(self.server):
            if use.volume_id == "v1":
                await self.volumes.release(use.id)
        del self.volumes.table["v1"]
        lost = await self.volumes.reserve("v2", self.server)
        await self.volumes.complete(lost)
        return await self.act(REBOOT, RebootArgs(self.server, True), "reboot-hard", Task.REBOOTING)


class PerhapsWithoutVolume(RebootWithoutVolume):
    """The same where it may be given up before it has mended anything."""

    async def audit(self) -> list[str]:
        return [p for p in await super().audit() if not p.startswith("volume.")]


class DeleteOnVolumes(ThereWithVolumes):
    async def start(self) -> tuple[str, str]:
        return await self.delete()


class AttachVolume(ThereWithVolumes):
    async def start(self) -> tuple[str, str]:
        attachment = await self.volumes.reserve("v2", self.server)
        disk = volume_disk(2, volume_id="v2", attachment_id=attachment)

        def add(tx: Tx) -> None:
            present = block_devices.of_server(tx, self.server)
            servers.set_disks(tx, self.server, [*present, disk], now=self.clock.now())

        await self.cell.run(add)
        return await self.disk(ATTACH_VOLUME, disk.id)


class FailingAttach(AttachVolume):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("attach_disk", times=None, late=True)


class DetachVolume(ThereWithVolumes):
    async def start(self) -> tuple[str, str]:
        await self.volumes.begin_detaching("v1")
        return await self.disk(DETACH_VOLUME, "disk-1")


class FailingDetach(DetachVolume):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("detach_disk", times=None)


class ExtendVolume(ThereWithVolumes):
    async def start(self) -> tuple[str, str]:
        return await self.disk(EXTEND_VOLUME, "disk-1")


class SwapVolume(ThereWithVolumes):
    async def start(self) -> tuple[str, str]:
        await self.volumes.begin_detaching("v1")
        attachment = await self.volumes.reserve("v2", self.server)
        args = SwapSaga(self.server, "disk-1", "v2", attachment)
        return await self.act(SWAP_VOLUME, args, "attach_volume", None)


class FailingSwap(SwapVolume):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("swap_disk")


class SnapshotVolume(ThereWithVolumes):
    """The volume service has the volume v1 snapshotted; row and guest agree on its file."""

    async def start(self) -> tuple[str, str]:
        return await self.assist(
            SNAPSHOT_VOLUME, SnapshotSaga(self.server, "disk-1", "s1", "v1.s1")
        )

    async def assist(self, kind: SagaKind[Any], args: Any) -> tuple[str, str]:
        """The API's part."""

        def work(tx: Tx) -> None:
            servers.begin(tx, self.server, kind.action, task=None, now=self.clock.now())
            self._accept(tx, kind, args, "req-assist")

        await self.cell.run(work)
        return await self.saga()

    async def audit(self) -> list[str]:
        found = await super().audit()
        guest = self.fakes.guests("h1").get(self.server)
        chain = guest.chains.get("v1", []) if guest is not None else []
        for disk in await self.cell.read(block_devices.of_server, self.server):
            if disk.volume_id != "v1" or disk.connection is None:
                continue
            name = disk.connection["data"]["device_path"].rpartition("/")[2]
            if name != (chain[0] if len(chain) > 1 else "v1"):
                found.append(f"the volume is kept as {name}, its guest has {chain}")
        return found

    async def outcome(self) -> Any:
        told = {key: words[-1] for key, words in self.volumes.told.items()}
        return await super().outcome() | {"told": told}


class FailingSnapshot(SnapshotVolume):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("snapshot_volume", late=True)


class MergeVolume(SnapshotVolume):
    """A snapshot in the middle goes."""

    args: tuple[str | None, str | None] = ("v1.s1", "volume-v1")

    async def prepare(self) -> None:
        await super().prepare()
        for name in ("s1", "s2"):
            args = SnapshotSaga(self.server, "disk-1", name, f"v1.{name}")
            await self.assist(SNAPSHOT_VOLUME, args)
            await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        args = MergeSaga(self.server, "disk-1", "s1", *self.args)
        return await self.assist(MERGE_VOLUME, args)


class MergeNewest(MergeVolume):
    args = ("volume-v1", None)


class FailingMerge(MergeVolume):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("merge_volume")


class Pause(There):
    async def start(self) -> tuple[str, str]:
        return await self.act(PAUSE, ServerArgs(self.server), "pause", Task.PAUSING)


class Unpause(There):
    async def prepare(self) -> None:
        await super().prepare()
        await self.act(PAUSE, ServerArgs(self.server), "pause", Task.PAUSING)
        await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        return await self.act(UNPAUSE, ServerArgs(self.server), "unpause", Task.UNPAUSING)


class SoftDelete(There):
    async def start(self) -> tuple[str, str]:
        return await self.act(SOFT_DELETE, ServerArgs(self.server), "delete", Task.SOFT_DELETING)


class Restore(There):
    async def prepare(self) -> None:
        await super().prepare()
        await self.act(SOFT_DELETE, ServerArgs(self.server), "delete", Task.SOFT_DELETING)
        await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        return await self.act(RESTORE, ServerArgs(self.server), "restore", Task.RESTORING)


class CrashDump(There):
    async def start(self) -> tuple[str, str]:
        def work(tx: Tx) -> None:
            self._record(tx, CRASH_DUMP.action)
            self._accept(tx, CRASH_DUMP, ServerArgs(self.server), f"req-{CRASH_DUMP.action}")

        await self.cell.run(work)
        return await self.saga()


class Attach(There):
    card = WantedNic("9", network_id="n2", tag="third")

    async def start(self) -> tuple[str, str]:
        return await self.plug_card(ATTACH_INTERFACE, AttachArgs(self.server, self.card))


class AttachGiven(Attach):
    card = WantedNic("9", port_id=GIVEN)

    async def open(self) -> None:
        await super().open()
        self.network.table[GIVEN] = Port(GIVEN, "n1", "p1", "fa:16:3e:00:00:99")


class AttachRefused(Attach):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("attach_nic", times=None, late=True)


class AttachOnDeadHost(Attach):
    async def open(self) -> None:
        await super().open()
        await self.dies("h1")


class Detach(There):
    async def start(self) -> tuple[str, str]:
        (port,) = self.network.table
        return await self.plug_card(DETACH_INTERFACE, PortArgs(self.server, port))


class DetachGiven(Detach):
    async def prepare(self) -> None:
        self.network.table[GIVEN] = Port(GIVEN, "n1", "p1", "fa:16:3e:00:00:99")
        await super().prepare()

    nics = (WantedNic("0", port_id=GIVEN),)


class DetachRefused(Detach):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("detach_nic", times=None)


class AttachShare(There):
    """A server that is off gets a file share."""

    async def prepare(self) -> None:
        self.shares.add("s1")
        await super().prepare()
        await self.act(STOP, ServerArgs(self.server), "os-stop", Task.POWERING_OFF)
        await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        return await self.share("s1")

    async def share(self, share_id: str) -> tuple[str, str]:
        """The API's part of attaching."""
        row = ShareMapping(
            f"m-{share_id}", self.server, share_id, share_id, "10.0.0.50:/foo", "NFS"
        )
        await self.cell.run(shares.add, row, now=self.clock.now())
        args = ShareSaga(self.server, share_id)
        return await self.act(ATTACH_SHARE, args, "attach_share", None)

    async def audit(self) -> list[str]:
        """What the server has, its host may use; what it has not, no host."""
        found = await super().audit()
        rows = {row.share_id: row for row in await self.cell.read(shares.of_server, self.server)}
        allowed = {share_id for share_id, _ in self.shares.rules}
        for share_id, row in rows.items():
            if row.status in ("active", "inactive") and share_id not in allowed:
                found.append(f"the host may not use the share {share_id}")
        found += [f"the share {one} is left open" for one in allowed - rows.keys()]
        if self.shares.refuses:
            found += [f"the share {one} is left open" for one in allowed]
        return found


class AttachShareRefused(AttachShare):
    async def open(self) -> None:
        await super().open()
        self.shares.refuses = True


class AttachShareNeverOpen(AttachShare):
    async def open(self) -> None:
        await super().open()
        self.shares.slow = 10**6


class WithShare(AttachShare):
    """A server that is off has a file share."""

    async def prepare(self) -> None:
        await super().prepare()
        await self.share("s1")
        await Runner(self.kit()).drain()


class DetachShare(WithShare):
    async def start(self) -> tuple[str, str]:
        now = self.clock.now()
        await self.cell.run(shares.set_status, self.server, "s1", "detaching", now=now)
        args = ShareSaga(self.server, "s1")
        return await self.act(DETACH_SHARE, args, "detach_share", None)


class StartWithShare(WithShare):
    async def start(self) -> tuple[str, str]:
        return await self.act(START, ServerArgs(self.server), "os-start", Task.POWERING_ON)


class RunsWithShare(WithShare):
    """A server that runs has a file share."""

    async def prepare(self) -> None:
        await super().prepare()
        await self.act(START, ServerArgs(self.server), "os-start", Task.POWERING_ON)
        await Runner(self.kit()).drain()


class StopWithShare(RunsWithShare):
    async def start(self) -> tuple[str, str]:
        return await self.act(STOP, ServerArgs(self.server), "os-stop", Task.POWERING_OFF)


class DeleteWithShare(RunsWithShare):
    async def start(self) -> tuple[str, str]:
        return await self.delete()


for name, saga, kind, ends in (
    ("build", "server.build", Build, "done"),
    ("build with a given port", "server.build", GivenPort, "done"),
    ("build with a port that is taken", "server.build", TakenPort, "undone"),
    ("build on an automatic network", "server.build", AutoNetwork, "done"),
    ("build, first host broken", "server.build", FirstHostBroken, "done"),
    ("build, first host dies", "server.build", FirstHostDies, "done"),
    ("build without a valid host", "server.build", NoHost, "undone"),
    ("build, ports never opened", "server.build", NeverOpened, "undone"),
    ("build on volumes", "server.build", OnVolumes, "done"),
    ("build on volumes, first host broken", "server.build", OnVolumesFirstHostBroken, "done"),
    ("build on a volume that fails", "server.build", OnBrokenVolume, "undone"),
    ("delete with volumes", "server.delete", DeleteOnVolumes, "done"),
    ("reboot without its volume", "server.reboot", PerhapsWithoutVolume, "done"),
    ("attach a volume", "server.attach_volume", AttachVolume, "done"),
    ("attach a volume in vain", "server.attach_volume", FailingAttach, "undone"),
    ("detach a volume", "server.detach_volume", DetachVolume, "done"),
    ("detach a volume in vain", "server.detach_volume", FailingDetach, "undone"),
    ("extend a volume", "server.extend_volume", ExtendVolume, "done"),
    ("swap a volume", "server.swap_volume", SwapVolume, "done"),
    ("swap a volume in vain", "server.swap_volume", FailingSwap, "undone"),
    ("snapshot of a volume", "server.snapshot_volume", SnapshotVolume, "done"),
    ("snapshot of a volume in vain", "server.snapshot_volume", FailingSnapshot, "undone"),
    ("merge of a volume's files", "server.merge_volume", MergeVolume, "done"),
    ("merge of a volume's newest files", "server.merge_volume", MergeNewest, "done"),
    ("merge of a volume's files in vain", "server.merge_volume", FailingMerge, "undone"),
    ("build in a group, a race lost", "server.build", InGroup, "done"),
    ("build in a group that is full", "server.build", FullGroup, "undone"),
    ("build in a group, first host broken", "server.build", BrokenInGroup, "done"),
    ("build with pinned CPUs", "server.build", Pinned, "done"),
    ("delete", "server.delete", Delete, "done"),
    ("delete with pinned CPUs", "server.delete", PinnedDelete, "done"),
    ("delete in a group", "server.delete", DeleteInGroup, "done"),
    ("delete in cell0", "server.delete", DeleteBuried, "done"),
    ("delete on a dead host", "server.delete", DeleteOnDeadHost, "done"),
    ("stop", "server.stop", Stop, "done"),
    ("start", "server.start", Start, "done"),
    ("soft reboot", "server.reboot", SoftReboot, "done"),
    ("hard reboot", "server.reboot", HardReboot, "done"),
    ("pause", "server.pause", Pause, "done"),
    ("unpause", "server.unpause", Unpause, "done"),
    ("soft delete", "server.soft_delete", SoftDelete, "done"),
    ("restore", "server.restore", Restore, "done"),
    ("crash dump", "server.crash_dump", CrashDump, "done"),
    ("attach of a card", "server.attach_interface", Attach, "done"),
    ("attach of a given port", "server.attach_interface", AttachGiven, "done"),
    ("attach that fails", "server.attach_interface", AttachRefused, "undone"),
    ("attach on a dead host", "server.attach_interface", AttachOnDeadHost, "undone"),
    ("detach of a card", "server.detach_interface", Detach, "done"),
    ("detach of a given port", "server.detach_interface", DetachGiven, "done"),
    ("detach that fails", "server.detach_interface", DetachRefused, "undone"),
    ("attach of a share", "server.attach_share", AttachShare, "done"),
    ("attach of a share, refused", "server.attach_share", AttachShareRefused, "undone"),
    ("attach of a share, never open", "server.attach_share", AttachShareNeverOpen, "undone"),
    ("detach of a share", "server.detach_share", DetachShare, "done"),
    ("start with a share", "server.start", StartWithShare, "done"),
    ("stop with a share", "server.stop", StopWithShare, "done"),
    ("delete with a share", "server.delete", DeleteWithShare, "done"),
    ("failing reboot", "server.reboot", FailingReboot, "undone"),
):
    scenario(f"server {name}", saga, ends=ends)(stage(kind))
