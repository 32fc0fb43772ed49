"""Runs operations: each once, equal ones joined, those on one guest one after another."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import msgspec

from kilonova.base.errors import Fault
from kilonova.compute.journal import Journal, Stale
from kilonova.compute.operations import HANDLERS, At, Handler
from kilonova.domain.operations import OperationId, OperationReply, OperationRequest

ANSWER_SECONDS = 20.0
"""A caller that waited this long reads *running* and asks again."""

log = logging.getLogger(__name__)


class _Work:
    """An operation under way, and who asked for it last.

    ``given_up`` says why it was ended before its time.
    """

    def __init__(self, server_id: str, who: OperationId) -> None:
        self.server_id = server_id
        self.who = who
        self.task: asyncio.Task[OperationReply]
        self.given_up = ""


class Worker:
    """The bus method ``operate`` of one agent."""

    def __init__(self, at: At, journal: Journal) -> None:
        self._at = at
        self._journal = journal
        self._running: dict[tuple[str, str], _Work] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()
        self._stopping: asyncio.Future[None] | None = None

    async def operate(self, request: OperationRequest) -> OperationReply:
        """Do, join or answer again; a failure is a reply, never an exception."""
        if request.name not in HANDLERS:
            return OperationReply(
                "failed", error="NotSupported", message=f"No operation {request.name!r} here."
            )
        handler = HANDLERS.get(request.name)
        try:
            args = msgspec.msgpack.decode(request.args, type=handler.operation.args)
        except msgspec.MsgspecError as error:
            return OperationReply("failed", error="BadRequest", message=str(error))
        if not handler.changes:
            return await self._do(handler, args, request)
        try:
            work = self._begin(handler, args, request)
        except Stale as stale:
            return _failure(stale)
        return work if isinstance(work, OperationReply) else await self._answer(work)

    async def stop(self, seconds: float) -> None:
        """Begin nothing more; let work under way finish for that long, then leave it undone.

        Work left undone has no answer in the journal: whoever asks the next agent has it done.
        """
        stopping = self._stop_signal()
        if not stopping.done():
            stopping.set_result(None)
        tasks = [work.task for work in self._running.values()]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            log.warning("%d operations were not finished in time", len(late))
            await asyncio.wait(late)

    def _begin(
        self, handler: Handler, args: Any, request: OperationRequest
    ) -> _Work | OperationReply:
        key = (request.id.saga, request.id.step)
        work = self._running.get(key)
        if work is not None:
            self._journal.join(self._at.host, request.id)
            work.who = request.id
            return work
        if self._stop_signal().done():
            return OperationReply("running")
        known = self._journal.begin(self._at.host, request.id, request.name, request.server_id)
        if known is not None:
            return known
        work = _Work(request.server_id, request.id)
        work.task = asyncio.create_task(self._work(handler, args, request, work))
        self._running[key] = work
        work.task.add_done_callback(lambda _: self._running.pop(key, None))
        return work

    async def _answer(self, work: _Work) -> OperationReply:
        either: set[asyncio.Future[Any]] = {work.task, self._stop_signal()}
        await asyncio.wait(
            either,
            timeout=ANSWER_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if work.task.done() and not work.task.cancelled():
            return work.task.result()
        return OperationReply("running")

    def _stop_signal(self) -> asyncio.Future[None]:
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_future()
        return self._stopping

    async def _work(
        self, handler: Handler, args: Any, request: OperationRequest, work: _Work
    ) -> OperationReply:
        server_id = request.server_id
        lock = self._locks.setdefault(server_id, asyncio.Lock())
        self._users[server_id] += 1
        try:
            if handler.clears:
                await self._clear(work, f"{handler.operation.name} of the guest came first.")
            async with lock:
                # While this waited its turn, a newer conductor may have decided otherwise.
                self._journal.fence(self._at.host, work.who)
                reply = await self._do(handler, args, request)
        except Stale as stale:
            reply = _failure(stale)
        except asyncio.CancelledError:
            if not work.given_up:
                raise
            reply = OperationReply("failed", error="Conflict", message=work.given_up)
        finally:
            self._users[server_id] -= 1
            if not self._users[server_id]:
                del self._users[server_id], self._locks[server_id]
        self._journal.finish(self._at.host, request.id, reply)
        return reply

    async def _clear(self, clearing: _Work, why: str) -> None:
        others = [
            work
            for work in self._running.values()
            if work.server_id == clearing.server_id and work is not clearing
        ]
        for work in others:
            work.given_up = why
            work.task.cancel()
        if others:
            await asyncio.wait([work.task for work in others])

    async def _do(self, handler: Handler, args: Any, request: OperationRequest) -> OperationReply:
        limit = request.seconds if request.seconds > 0 else handler.operation.seconds
        try:
            async with asyncio.timeout(limit):
                result = await handler.work(self._at, args)
            return OperationReply("done", result=msgspec.msgpack.encode(result))
        except Fault as fault:
            log.info("%s of %s failed: %s", request.name, request.server_id, fault.message)
            return _failure(fault)
        except TimeoutError:
            return OperationReply(
                "failed",
                error="Timeout",
                message=f"{request.name} on host {self._at.host} took longer than {limit:g} s.",
            )
        except Exception as error:
            log.exception("%s of %s failed", request.name, request.server_id)
            return OperationReply(
                "failed",
                error="Internal",
                message=f"{request.name} failed on host {self._at.host}: {type(error).__name__}.",
            )


def _failure(fault: Fault) -> OperationReply:
    return OperationReply("failed", error=type(fault).__name__, message=fault.message)
