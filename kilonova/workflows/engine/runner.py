"""The conductor's loop: take sagas, run them, renew their leases, end or park them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from kilonova.base import log as logs
from kilonova.base.aio import Signal, backoff, forever
from kilonova.base.errors import Unavailable
from kilonova.base.ids import Ids, RandomIds
from kilonova.db.database import Database, Tx
from kilonova.domain.agent import CONDUCTOR
from kilonova.messaging.bus import Bus
from kilonova.workflows.engine import journal
from kilonova.workflows.engine.errors import (
    Abandon,
    Cancelled,
    DatabaseDown,
    ErrorInfo,
    Fenced,
    NotDeterministic,
    describe,
)
from kilonova.workflows.engine.journal import SagaRow, StepRow, UndoRow
from kilonova.workflows.engine.kit import Happening, Kit
from kilonova.workflows.engine.run import Run
from kilonova.workflows.engine.saga import PartStuck, Saga, StepBroke
from kilonova.workflows.engine.steps import SAGAS, decode, encode

log = logging.getLogger(__name__)

_RUNNING: set[str] = set()


async def nudge(bus: Bus) -> None:
    """Tell the conductors that there is something to do; losing it costs only time."""
    await bus.cast(CONDUCTOR, "wake")


class Runner:
    """Runs the sagas of several databases. Its owner name is new at every start.

    ``run`` works until cancelled; ``drain`` until nothing is left to do (tests, tools). Serve
    ``methods()`` on the bus topic of the conductors to be woken by ``nudge``.
    """

    def __init__(self, kit: Kit, *, ids: Ids | None = None, name: str = "") -> None:
        self.kit = kit
        self.owner = f"{name or socket.gethostname()}:{os.getpid()}:{(ids or RandomIds()).hex()}"
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._runs: dict[str, Run] = {}
        self._busy = 0
        self._more = False
        self._wake = Signal()
        self._crash: BaseException | None = None

    def methods(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Bus methods: ``wake``, and ``wake_waiting`` when there is a signal but no new work."""

        async def wake() -> None:
            self.wake()

        async def wake_waiting() -> None:
            self.kit.watch.wake()

        return {"wake": wake, "wake_waiting": wake_waiting}

    def wake(self) -> None:
        """Look for work and for signals now."""
        self.kit.watch.wake()
        self._wake.set()

    @property
    def running(self) -> int:
        """How many sagas are in hand, waiting ones included."""
        return len(self._tasks)

    # -- loops -----------------------------------------------------------------------------

    async def run(self, *, grace: float = 10.0) -> None:
        """Work until cancelled; then give sagas in hand ``grace`` seconds, release the rest."""
        limits = self.kit.limits
        _RUNNING.add(self.owner)
        try:
            await self._bury_predecessors()
            async with asyncio.TaskGroup() as group:
                for place, db in self.kit.databases.items():
                    renew = self._renewing(place, db)
                    group.create_task(forever(f"leases of {place}", renew, every=limits.lease / 3))
                group.create_task(forever("sagas", self._look, every=limits.poll, wake=self._wake))
        finally:
            await self._stop(grace)
            _RUNNING.discard(self.owner)

    async def drain(self) -> None:
        """Run until no saga can go on: all have ended, are stuck, or wait behind another."""
        while True:
            if await self.take():
                await self.settle()
                continue
            moments = [await db.read(journal.next_ready, list(SAGAS)) for db in self._databases()]
            next_one = min((m for m in moments if m is not None), default=None)
            if next_one is None:
                return
            await self.kit.clock.sleep(max(next_one - self.kit.now(), 0.001))

    async def take(self) -> int:
        """Take what is ready and start it; how many."""
        names, limits, taken = list(SAGAS), self.kit.limits, 0
        self._more = False
        for place, db in self.kit.databases.items():
            free = limits.concurrency - self._busy
            if free <= 0:
                self._more = True
                continue
            if not await db.read(journal.any_ready, names, self.kit.now()):
                continue
            now = self.kit.now()
            rows = await db.run(journal.claim, names, self.owner, now, limits.lease, free)
            taken += len(rows)
            self._more = self._more or len(rows) == free
            for row in rows:
                self._start(place, row)
        return taken

    async def settle(self) -> None:
        """Wait until the sagas in hand have ended or were parked; raises a crash of the harness."""
        while self._tasks and self._crash is None:
            await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)
        if self._crash is not None:
            await self._drop()
            crash, self._crash = self._crash, None
            raise crash

    def _databases(self) -> Iterable[Database]:
        return self.kit.databases.values()

    async def _look(self) -> None:
        for place, db in self.kit.databases.items():
            mine = self._of(place)
            if mine:
                self._notice(mine, await db.read(journal.held, self.owner))
        while await self.take() and self._more:
            pass

    def _renewing(self, place: str, db: Database) -> Callable[[], Awaitable[None]]:
        async def renew() -> None:
            mine = self._of(place)
            if mine:
                ids, now = [run.row.id for run in mine], self.kit.now()
                lease = self.kit.limits.lease
                self._notice(mine, await db.run(journal.renew, self.owner, ids, now, lease))

        return renew

    def _of(self, place: str) -> list[Run]:
        return [run for run in self._runs.values() if run.own == place]

    def _notice(self, mine: list[Run], held: dict[str, bool]) -> None:
        """Pass cancels on to running sagas and drop those that another runner took meanwhile."""
        for run in mine:
            saga_id = run.row.id
            if held.get(saga_id):
                run.cancel.set()
            elif saga_id not in held and self._runs.get(saga_id) is run:
                self._tasks[saga_id].cancel()

    async def _bury_predecessors(self) -> None:
        """Take over at once from processes of this machine and name that are dead.

        Should one of them live after all, the fence stops it.
        """
        machine = self.owner.rsplit(":", 2)[0]
        for db in self._databases():
            with contextlib.suppress(Unavailable):
                for owner in await db.read(journal.owners, f"{machine}:"):
                    if _is_dead(owner):
                        await db.run(journal.release, owner, self.kit.now())

    async def _stop(self, grace: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=grace)
        await self._drop()
        for db in self._databases():
            with contextlib.suppress(Unavailable):
                await db.run(journal.release, self.owner, self.kit.now())

    async def _drop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- one saga ----------------------------------------------------------------------------

    def _start(self, place: str, row: SagaRow) -> None:
        task = asyncio.create_task(self._drive(place, row), name=f"saga {row.name} {row.id}")
        former = self._tasks.get(row.id)
        if former is not None:
            # Our own lease ran out and we took the saga again: the former run is fenced already.
            former.cancel()
        self._tasks[row.id] = task
        self._change(+1)

        def ended(done: asyncio.Task[None]) -> None:
            self._change(-1)
            if self._tasks.get(row.id) is done:
                self._tasks.pop(row.id)
                self._runs.pop(row.id, None)

        task.add_done_callback(ended)

    def _change(self, by: int) -> None:
        self._busy += by
        if by < 0 and self._more:
            self._wake.set()

    async def _drive(self, place: str, row: SagaRow) -> None:
        """Run a saga until it ends, is parked or lost; outlast absent databases."""
        pauses = backoff(0.2, most=10.0)
        current: SagaRow | None = row
        tries = 0
        while current is not None:
            try:
                await self._once(place, current)
                return
            except (DatabaseDown, Unavailable) as error:
                log.warning("saga %s %s pauses: %s", row.name, row.id, error)
            except Fenced as error:
                log.warning("saga %s was lost to another runner: %s", row.name, error)
                return
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.exception("saga %s %s could not be run", row.name, row.id)
                # What cannot be decoded now cannot be decoded later either.
                hopeless = isinstance(error, msgspec.MsgspecError)
                tries += 1
                enough = hopeless or tries >= self.kit.limits.forward_tries
                if enough and await self._give_up(place, current, error):
                    return
            except BaseException as crash:
                self._crash = crash
                return
            current = await self._again(place, row.id, pauses)

    async def _again(self, place: str, saga_id: str, pauses: Iterable[float]) -> SagaRow | None:
        for pause in pauses:
            await self.kit.clock.sleep(pause)
            try:
                return await self.kit.databases[place].run(
                    journal.reclaim, saga_id, self.owner, self.kit.now(), self.kit.limits.lease
                )
            except Unavailable:
                continue
        return None

    async def _once(self, place: str, row: SagaRow) -> None:
        kind = SAGAS.get(row.name)
        steps: dict[str, StepRow] = {}
        undo: list[UndoRow] = []
        if row.epoch > 1:
            steps, undo = await self.kit.databases[place].read(journal.memory, row.id)
        run = Run(self.kit, place, row, kind, steps, undo, self._change)
        self._runs[row.id] = run
        logs.request_id.set(run.asked.request_id)
        logs.global_request_id.set(run.asked.global_request_id)
        if run.asked.user_id:
            logs.who.set(f"{run.asked.user_id} {run.asked.project_id or '-'}")
        if row.backward:
            await self._unwind(run)
            return
        if run.cancel.is_set() and not run.forward:
            await self._back(run, Cancelled("The operation was cancelled."))
            return
        try:
            args = kind.types().decode_args(row.args)
            result = await kind.fn(Saga(run), *args)
        except StepBroke as broke:
            tries = row.tries + 1
            await self._park(run, broke.info, tries, self.kit.limits.forward_tries, keep=tries)
        except PartStuck as stuck:
            await self._park(run, stuck.info, stuck.tries, self.kit.limits.undo_tries)
        except NotDeterministic as error:
            info = ErrorInfo("NotDeterministic", str(error), "saga.not_deterministic")
            await self._stick(run, info, 0)
        except Abandon:
            raise
        except Exception as error:
            if run.forward:
                tries = row.tries + 1
                limit = self.kit.limits.forward_tries
                await self._park(run, describe(error), tries, limit, keep=tries)
            else:
                await self._back(run, error)
        else:
            await self._end(run, "done", None, None if result is None else encode(result))

    async def _give_up(self, place: str, row: SagaRow, error: Exception) -> bool:
        """Leave a saga that cannot even be begun to an operator; False if that fails, too."""
        what = "read" if isinstance(error, msgspec.MsgspecError) else "run"
        text = f"Its record cannot be {what}: {error}"
        info = ErrorInfo(type(error).__name__, text, "saga.unreadable")

        def stick(tx: Tx) -> None:
            journal.guard(tx, row.id, row.epoch)
            journal.stick(tx, row.id, self.kit.now(), row.tries, info)

        try:
            await self.kit.databases[place].run(stick)
        except (Unavailable, Fenced):
            return False
        log.error("saga %s %s is stuck: %s", row.name, row.id, text)
        return True

    async def _back(self, run: Run, error: Exception) -> None:
        info = describe(error)
        log.info("saga %s %s goes back: %s", run.row.name, run.row.id, info.message)
        await run.turn_back(info)
        await self._unwind(run)

    async def _unwind(self, run: Run) -> None:
        error = decode(run.row.error, ErrorInfo) or ErrorInfo("Unknown", "")
        broken = await run.unwind("", error)
        if broken is not None:
            info = decode(broken.error, ErrorInfo)
            await self._park(run, info, broken.tries, self.kit.limits.undo_tries)
            return
        state = "cancelled" if error.type == "Cancelled" else "undone"
        await self._end(run, state, error, None)

    async def _end(self, run: Run, state: str, error: ErrorInfo | None, result: str | None) -> None:
        visible = self.kit.visible
        home, row = run.home, run.row
        what = Happening(run.kind, row.id, row.server_id, run.asked, state=state, error=error)
        if visible is not None and visible.tells_ends and home != run.own:
            await run.settle()

            def tell(tx: Tx) -> None:
                visible.saga_ended(tx, what)

            await run.abroad(home, "", tell)

        def end(tx: Tx) -> bool:
            if visible is not None and home == run.own:
                visible.saga_ended(tx, what)
            text = encode(error) if error else None
            return journal.end(tx, row.id, state, self.kit.now(), result=result, error=text)

        self.kit.at("ending", "")
        if await run.write(end):
            self._wake.set()
        self.kit.at("ended", "")

    async def _park(
        self, run: Run, error: ErrorInfo, tries: int, most: int, *, keep: int = 0
    ) -> None:
        if tries >= most:
            await self._stick(run, error, keep)
            return
        limits = self.kit.limits
        pause = min(limits.backoff_first * 2.0 ** (tries - 1), limits.backoff_most)
        now = self.kit.now()
        saga_error = _kept(run, error)
        await run.write(lambda tx: journal.park(tx, run.row.id, now, now + pause, keep, saga_error))
        log.warning(
            "saga %s %s tries again in %g s: %s", run.row.name, run.row.id, pause, error.message
        )

    async def _stick(self, run: Run, error: ErrorInfo, tries: int) -> None:
        now = self.kit.now()
        saga_error = _kept(run, error)
        await run.write(lambda tx: journal.stick(tx, run.row.id, now, tries, saga_error))
        log.error(
            "saga %s %s is stuck at %s: %s",
            run.row.name,
            run.row.id,
            error.step or "its code",
            error.message,
        )


def _is_dead(owner: str) -> bool:
    """Whether the process an owner name tells of is gone; ours may have had another's number."""
    pid = owner.rsplit(":", 2)[-2]
    if not pid.isdecimal() or owner in _RUNNING:
        return False
    if int(pid) == os.getpid():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _kept(run: Run, error: ErrorInfo) -> ErrorInfo:
    """While unwinding, the saga's error stays why it goes back; its undos keep their own."""
    if run.row.backward and run.row.error:
        kept: ErrorInfo = decode(run.row.error, ErrorInfo)
        return kept
    return error
