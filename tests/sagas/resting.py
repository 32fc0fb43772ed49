"""Scenarios of servers that rest: suspended, shelved."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.db.database import Tx
from kilonova.domain.sagas import (
    RESUME,
    SHELVE,
    SHELVE_OFFLOAD,
    SHELVE_VOLUMES,
    SUSPEND,
    UNSHELVE,
    UNSHELVE_HERE,
    ServerArgs,
    UnshelveArgs,
)
from kilonova.domain.server import Server
from kilonova.domain.states import Task, VmState
from kilonova.store import servers, shelved
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.harness import scenario
from tests.sagas.cloud import CloudStage
from tests.sagas.scenarios import InGroup, Pinned, There, ThereWithVolumes, stage


class Suspend(There):
    async def start(self) -> tuple[str, str]:
        return await self.act(SUSPEND, ServerArgs(self.server), "suspend", Task.SUSPENDING)


class SuspendInVain(Suspend):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("suspend", times=None)


class Resume(There):
    async def prepare(self) -> None:
        await super().prepare()
        await self.act(SUSPEND, ServerArgs(self.server), "suspend", Task.SUSPENDING)
        await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        return await self.act(RESUME, ServerArgs(self.server), "resume", Task.RESUMING)


class ResumeInVain(Resume):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("wake", times=None)


class Pictures(There):
    """What there is of images is told; a server that is no more, or runs, has none."""

    offload_after = 0

    def __init__(self) -> None:
        super().__init__()
        default = msgspec.structs.replace(
            self.settings.default, shelved_offload_time=self.offload_after
        )
        self.settings = msgspec.structs.replace(self.settings, default=default)

    async def outcome(self) -> Any:
        images = sorted([i.name, i.status] for i in self.images.table.values())
        return await super().outcome() | {"images": images}

    async def audit(self) -> list[str]:
        found = await super().audit()
        server, system = await self.cell.read(_state, self.server)
        states = (VmState.SHELVED, VmState.SHELVED_OFFLOADED, VmState.ERROR)
        kept = server is not None and server.vm_state in states
        images = set(self.images.table)
        if kept and server is not None and not server.from_volume and server.image is not None:
            if system.get(shelved.IMAGE) not in images:
                found.append("its image is gone")
            images.discard(system.get(shelved.IMAGE, ""))
        elif shelved.AT in system and not kept:
            found.append(f"it is not shelved, but {system}")
        found += [f"image {i} is left" for i in images]
        for host in self.hosts:
            for guest in self.fakes.guests(host).values():
                found += [f"a copy for {image} is left on {host}" for image in guest.copies]
        return found


class Shelve(Pictures):
    """Off its host at once."""

    async def start(self) -> tuple[str, str]:
        return await self.act(SHELVE, ServerArgs(self.server), "shelve", Task.SHELVING)


class ShelveAndStay(Shelve):
    offload_after = 60


class ShelveInVain(Shelve):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("send_snapshot", times=None, late=True)


class ShelveInGroup(InGroup, Shelve):
    others = ()

    async def prepare(self) -> None:
        await CloudStage.prepare(self)
        await self.api.run(self._join)
        self.looked = False
        await self.create()
        await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        return await Shelve.start(self)


class ShelvePinned(Pinned, Shelve):
    async def prepare(self) -> None:
        await CloudStage.prepare(self)
        await self.create()
        await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        return await Shelve.start(self)


class OnVolumes(ThereWithVolumes, Pictures):
    """A server that starts from a volume, and has another."""


class ShelveVolumes(OnVolumes):
    async def start(self) -> tuple[str, str]:
        return await self.act(SHELVE_VOLUMES, ServerArgs(self.server), "shelve", Task.SHELVING)


class Shelved(Pictures):
    """A shelved server is there."""

    offload_after = 60

    async def prepare(self) -> None:
        await super().prepare()
        await self.act(SHELVE, ServerArgs(self.server), "shelve", Task.SHELVING)
        await Runner(self.kit()).drain()


class Offload(Shelved):
    async def start(self) -> tuple[str, str]:
        args, task = ServerArgs(self.server), Task.SHELVING_OFFLOADING
        return await self.act(SHELVE_OFFLOAD, args, "shelveOffload", task)


class OffloadDeadHost(Offload):
    async def open(self) -> None:
        await super().open()
        await self.dies("h1")


class UnshelveHere(Shelved):
    async def start(self) -> tuple[str, str]:
        return await self.act(UNSHELVE_HERE, ServerArgs(self.server), "unshelve", Task.UNSHELVING)


class Offloaded(Shelved):
    """One that left its host is there."""

    offload_after = 0


class Unshelve(Offloaded):
    async def start(self) -> tuple[str, str]:
        args = UnshelveArgs(self.server)
        return await self.act(UNSHELVE, args, "unshelve", Task.UNSHELVING)


class UnshelveInZone(Offloaded):
    async def start(self) -> tuple[str, str]:
        args = UnshelveArgs(self.server, None, True, "nova")
        return await self.act(UNSHELVE, args, "unshelve", Task.UNSHELVING)


class UnshelveFirstHostBroken(Unshelve):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("spawn", on="h1", times=None, late=True)


class UnshelveNowhere(Unshelve):
    async def open(self) -> None:
        await super().open()
        self.hosts = ()


class UnshelveWithoutImage(Unshelve):
    async def open(self) -> None:
        await super().open()
        self.images.table.clear()

    async def audit(self) -> list[str]:
        return [text for text in await super().audit() if text != "its image is gone"]


class UnshelveVolumes(OnVolumes):
    async def prepare(self) -> None:
        await super().prepare()
        await self.act(SHELVE_VOLUMES, ServerArgs(self.server), "shelve", Task.SHELVING)
        await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        args = UnshelveArgs(self.server)
        return await self.act(UNSHELVE, args, "unshelve", Task.UNSHELVING)


class UnshelveVolumesFirstHostBroken(UnshelveVolumes):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("spawn", on="h1", times=None, late=True)


class DeleteShelved(Shelved):
    async def start(self) -> tuple[str, str]:
        return await self.delete()


class DeleteOffloaded(Offloaded):
    async def start(self) -> tuple[str, str]:
        return await self.delete()


def _state(tx: Tx, server_id: str) -> tuple[Server | None, dict[str, str]]:
    server, private = servers.get(tx, server_id), servers.private(tx, server_id)
    return server, private.system if server is not None and private is not None else {}


for name, saga, kind, ends in (
    ("suspend", "server.suspend", Suspend, "done"),
    ("suspend in vain", "server.suspend", SuspendInVain, "undone"),
    ("resume", "server.resume", Resume, "done"),
    ("resume in vain", "server.resume", ResumeInVain, "undone"),
    ("shelve", "server.shelve", Shelve, "done"),
    ("shelve and stay", "server.shelve", ShelveAndStay, "done"),
    ("shelve in vain", "server.shelve", ShelveInVain, "undone"),
    ("shelve in a group", "server.shelve", ShelveInGroup, "done"),
    ("shelve with pinned CPUs", "server.shelve", ShelvePinned, "done"),
    ("shelve on volumes", "server.shelve_volumes", ShelveVolumes, "done"),
    ("offload", "server.shelve_offload", Offload, "done"),
    ("offload from a dead host", "server.shelve_offload", OffloadDeadHost, "undone"),
    ("unshelve here", "server.unshelve_here", UnshelveHere, "done"),
    ("unshelve", "server.unshelve", Unshelve, "done"),
    ("unshelve in a zone", "server.unshelve", UnshelveInZone, "done"),
    ("unshelve, first host broken", "server.unshelve", UnshelveFirstHostBroken, "done"),
    ("unshelve nowhere", "server.unshelve", UnshelveNowhere, "undone"),
    ("unshelve without its image", "server.unshelve", UnshelveWithoutImage, "undone"),
    ("unshelve on volumes", "server.unshelve", UnshelveVolumes, "done"),
    (
        "unshelve on volumes, first host broken",
        "server.unshelve",
        UnshelveVolumesFirstHostBroken,
        "done",
    ),
    ("delete a shelved server", "server.delete", DeleteShelved, "done"),
    ("delete an offloaded server", "server.delete", DeleteOffloaded, "done"),
):
    scenario(f"server {name}", saga, ends=ends)(stage(kind))
