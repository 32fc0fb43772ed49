"""A small agent with an operation journal: run once, join, answer again, refuse stale epochs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from kilonova.base.errors import Fault
from kilonova.domain.agent import topic
from kilonova.domain.operations import OPERATIONS, OperationReply, OperationRequest
from kilonova.messaging.bus import Bus, Subscription

Work = Callable[[Any], Awaitable[Any]]


class FakeAgent:
    """One host. ``journal`` survives ``restart``; ``runs`` counts how often work was done."""

    def __init__(
        self, bus: Bus, host: str, work: dict[str, Work], *, patience: float = 5.0
    ) -> None:
        self.host = host
        self.bus = bus
        self.work = work
        self.patience = patience
        self.journal: dict[str, OperationReply] = {}
        self.epochs: dict[str, int] = {}
        self.runs: dict[str, int] = {}
        self.running: dict[str, asyncio.Task[OperationReply]] = {}
        self.server_locks: dict[str, asyncio.Lock] = {}
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        self._subscription = await self.bus.serve(topic(self.host), {"operate": self.operate})

    async def operate(self, request: OperationRequest) -> OperationReply:
        key = f"{request.id.saga}/{request.id.step}"
        if request.id.epoch < self.epochs.get(request.id.saga, 0):
            return OperationReply("failed", error="Stale")
        self.epochs[request.id.saga] = request.id.epoch
        if key in self.journal:
            return self.journal[key]
        task = self.running.get(key)
        if task is None:
            task = asyncio.create_task(self._do(request, key))
            self.running[key] = task
            task.add_done_callback(lambda _: self.running.pop(key, None))
        done, _ = await asyncio.wait([task], timeout=self.patience)
        return task.result() if done else OperationReply("running")

    async def _do(self, request: OperationRequest, key: str) -> OperationReply:
        operation = OPERATIONS.get(request.name)
        args = msgspec.msgpack.decode(request.args, type=operation.args)
        async with self.server_locks.setdefault(request.server_id, asyncio.Lock()):
            if request.id.epoch < self.epochs[request.id.saga] and not key.endswith("/undo"):
                return OperationReply("failed", error="Stale")
            self.runs[key] = self.runs.get(key, 0) + 1
            try:
                result = await self.work[request.name](args)
                reply = OperationReply("done", msgspec.msgpack.encode(result))
            except Fault as fault:
                reply = OperationReply("failed", error=type(fault).__name__, message=fault.message)
            except Exception as error:
                reply = OperationReply("failed", error="Internal", message=str(error))
        if reply.state == "done" or not key.endswith("/undo"):
            self.journal[key] = reply
        return reply

    async def restart(self) -> None:
        """Die with all work under way and come back; the journal is kept."""
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        for task in list(self.running.values()):
            task.cancel()
        await asyncio.gather(*self.running.values(), return_exceptions=True)
        if self._subscription is not None:
            await self._subscription.close()
