"""A guest's living part: its process and monitor, followed until they end."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from kilonova.base.aio import Signal
from kilonova.base.errors import Conflict, Unavailable
from kilonova.virt.qemu.monitor import Monitor
from kilonova.virt.qemu.process import Process

RECONNECT_SECONDS = 0.3
TERM_SECONDS = 2.0

log = logging.getLogger(__name__)


class News(enum.Enum):
    """What happened to a guest."""

    OFF = "it switched itself off"
    CHANGED = "it runs, is paused, or has crashed"
    RESET = "it restarted itself"
    GONE = "its process ended"


Tell = Callable[[News, str], None]


class Running:
    """Nothing, or a process with its monitor. ``run`` is QEMU's run state as last heard.

    ``tell`` hears all that happens, also what our own commands cause. ``off`` is set once the
    guest has switched off or its process has ended; ``unplugged`` when a device has gone.
    """

    def __init__(self, monitor_path: Path, tell: Tell, *, seconds: float) -> None:
        self.run = "shutdown"
        self.off = asyncio.Event()
        self.unplugged = Signal()
        self._path = monitor_path
        self._tell = tell
        self._seconds = seconds
        self._process: Process | None = None
        self._monitor: Monitor | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int | None:
        """Of the living process."""
        return self._process.pid if self._process is not None and self.alive else None

    async def attach(self, process: Process) -> None:
        """Take a process and connect to its monitor; Unavailable when it ends or stays silent."""
        self._process = process
        self.off.clear()
        connecting = asyncio.create_task(
            Monitor.connect(self._path, self._on_event, seconds=self._seconds)
        )
        either: set[asyncio.Future[Any]] = {connecting, process.exited}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not connecting.done():
                connecting.cancel()
                await asyncio.wait({connecting})
        if connecting.cancelled():
            raise Unavailable("QEMU ended at once.")
        self._monitor = connecting.result()
        self.run = (await self._monitor.execute("query-status"))["status"]
        self._start(self._follow(process, self._monitor))

    def attach_later(self, process: Process) -> None:
        """Take a process whose monitor does not answer now; it is believed to run."""
        self._process = process
        self.run = "running"
        self._start(self._follow(process, None))

    async def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """A monitor command's answer; Conflict when there is no monitor, Unavailable."""
        if self._monitor is None:
            raise Conflict("The guest does not run.")
        return await self._monitor.execute(command, arguments)

    async def give(self, fd: int, name: str) -> None:
        """Hand a descriptor to QEMU, which calls it ``name`` from then on."""
        if self._monitor is None:
            raise Conflict("The guest does not run.")
        await self._monitor.give(fd, name)

    async def end(self, *, seconds: float) -> None:
        """End the process: by ``quit`` within ``seconds``, else (0: at once) by signals."""
        process = self._process
        if process is not None and process.alive:
            if seconds > 0 and self._monitor is not None:
                with contextlib.suppress(Unavailable):
                    await self._monitor.execute("quit", seconds=seconds)
                await process.wait(seconds)
            await process.end(seconds=min(seconds, TERM_SECONDS))
        await self.detach()
        self.run = "shutdown"

    async def detach(self) -> None:
        """Let go of process and monitor; they live on."""
        monitor, self._monitor = self._monitor, None
        process, self._process = self._process, None
        if process is not None:
            process.release()
        if monitor is not None:
            await monitor.close()

    def stop_following(self) -> None:
        """End what goes on in the background."""
        for task in self._tasks:
            task.cancel()

    async def _follow(self, process: Process, monitor: Monitor | None) -> None:
        """Wait for the end of the process; meanwhile reconnect a monitor that was lost."""
        while process.alive:
            if monitor is not None:
                either: set[asyncio.Future[Any]] = {process.exited, monitor.lost}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if await process.wait(RECONNECT_SECONDS) or self._process is not process:
                break
            with contextlib.suppress(Unavailable):
                monitor = await self._reconnect(process)
        if not process.alive and self._process is process:
            self.off.set()
            self._tell(News.GONE, process.exited.result())

    async def _reconnect(self, process: Process) -> Monitor | None:
        monitor = await Monitor.connect(self._path, self._on_event, seconds=10)
        if self._process is not process:
            await monitor.close()
            return None
        self._monitor = monitor
        run = (await monitor.execute("query-status"))["status"]
        if run == "shutdown" and self.run != run:
            self._on_event("SHUTDOWN", {})
        else:
            self._change(run)
        return monitor

    def _on_event(self, event: str, data: dict[str, Any]) -> None:
        log.debug("QMP event %s %s at %s", event, data, self._path)
        if event == "SHUTDOWN":
            self.run = "shutdown"
            self.off.set()
            self._tell(News.OFF, str(data.get("reason", "guest-shutdown")))
        elif event == "STOP" and self.run == "running":
            self._change("paused")
        elif event == "RESUME":
            self._change("running")
        elif event == "GUEST_PANICKED":
            self._change("guest-panicked")
        elif event == "DEVICE_DELETED":
            self.unplugged.set()
        elif event == "RESET":
            self._tell(News.RESET, "guest-reset")

    def _change(self, run: str) -> None:
        if run != self.run:
            self.run = run
            self._tell(News.CHANGED, "")

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
