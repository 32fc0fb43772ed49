"""A compute agent of the fake hypervisor for conversations with the Compute API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kilonova.compute.journal import Journal
from kilonova.compute.operations import At
from kilonova.compute.operations.handlers import builds_gate
from kilonova.compute.worker import Worker
from kilonova.domain.agent import WantedImage, topic
from kilonova.domain.describe import guest_spec
from kilonova.domain.guest import PowerState
from kilonova.domain.server import Server
from kilonova.store import servers
from kilonova.virt.driver import Host
from kilonova.virt.fake import FakeDriver, FakeWorld
from tests.support.cloud import Cloud
from tests.support.guests import Files, Plugs


class FakeAgent:
    """Answers ``operate``; ``images`` are those it was told to cache."""

    def __init__(self, cloud: Cloud, name: str = "h1") -> None:
        self.world = FakeWorld(clock=cloud.clock)
        self.name = name
        self.images: list[str] = []
        self._cloud = cloud
        host = Host(
            name=name,
            state_dir=Path("/nonexistent"),
            images=Files(),
            vifs=Plugs(),
            clock=cloud.clock,
            on_event=_nobody,
        )
        at = At(name, FakeDriver(host, self.world), host.settings, cloud.clock, builds_gate(0))
        self._worker = Worker(at, Journal(None, clock=cloud.clock))

    async def start(self) -> None:
        """Serve the host's topic."""
        methods: dict[str, Any] = {"operate": self._worker.operate, "cache_image": self._cache}
        await self._cloud.bus.serve(topic(self.name), methods)

    def adopt(self, server: Server) -> None:
        """Have a guest for a server, running."""
        private = self._cloud.cell1.db.run_sync(servers.private, server.id)
        assert private is not None
        self.world.make(self.name, guest_spec(server, private), PowerState.RUNNING)

    async def _cache(self, wanted: WantedImage) -> bool:
        self.images.append(wanted.image.id)
        return True


async def _nobody(status: object) -> None:
    """Nobody listens to events here."""
