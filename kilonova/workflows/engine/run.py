"""One run of one saga: its memory, and every way it writes to its journal."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import exc

from kilonova.base.errors import Timeout, Unavailable
from kilonova.base.ids import SeededIds
from kilonova.db.database import Tx
from kilonova.db.inline import known_as
from kilonova.domain.operations import OPERATIONS, Operation, OperationId
from kilonova.workflows.engine import journal
from kilonova.workflows.engine.errors import (
    Cancelled,
    DatabaseDown,
    ErrorInfo,
    NotDeterministic,
    describe,
    restore,
)
from kilonova.workflows.engine.journal import SagaRow, StepRow, UndoRow
from kilonova.workflows.engine.kit import Happening, Kit
from kilonova.workflows.engine.operations import host_is_down, operate
from kilonova.workflows.engine.steps import (
    STEPS,
    Asked,
    SagaType,
    Step,
    StepEnv,
    Undo,
    Undoing,
    decode,
    encode,
)

T = TypeVar("T")

OPERATION = "operation:"
IF_ALIVE = "operation-if-alive:"
PIVOT = "pivot"


class Run:
    """The state of a run. ``own`` is the name of the database the saga lives in.

    ``together`` counts the places in the saga where several steps are under way at once.

    Every write happens in a transaction that begins with the fence of the saga's own row, so that a
    run whose lease was taken over ends with Fenced at its next write.
    """

    def __init__(
        self,
        kit: Kit,
        own: str,
        row: SagaRow,
        kind: SagaType,
        steps: dict[str, StepRow],
        undo: list[UndoRow],
        busy: Callable[[int], None],
    ) -> None:
        self.kit = kit
        self.own = own
        self.row = row
        self.kind = kind
        self.steps = steps
        self.undo = undo
        self.busy = busy
        self.used: set[str] = set()
        self.cell = row.cell
        self.cancel = asyncio.Event()
        if row.cancel_requested:
            self.cancel.set()
        self.asked: Asked = decode(row.request, Asked)
        self._position = max((u.position for u in undo), default=0)
        self.together = 0
        # Names of steps without their part of the saga and their key, for measuring.
        self.plain: dict[str, str] = {}
        self._unwritten: list[tuple[str, Callable[[Tx], None]]] = []
        self._bare = False

    @property
    def forward(self) -> bool:
        """Whether the saga only goes forward (now)."""
        return self.kind.forward or PIVOT in self.steps

    # -- what steps and hooks are told ------------------------------------------------------

    def env(self, step: str, error: ErrorInfo | None = None, *, again: bool = True) -> StepEnv[Any]:
        """The environment of a step."""
        kit, row = self.kit, self.row
        return StepEnv(
            world=kit.world,
            settings=kit.settings,
            clock=kit.clock,
            ids=SeededIds(row.id, step),
            bus=kit.bus,
            asked=self.asked,
            saga_id=row.id,
            saga_name=self.kind.name,
            step=step,
            epoch=row.epoch,
            server_id=row.server_id,
            cell=self.cell,
            error=error,
            again=again,
            args=row.args,
        )

    def happening(self, step: StepRow, error: ErrorInfo | None = None) -> Happening:
        """A step as the visible side is told of it."""
        return Happening(
            self.kind,
            self.row.id,
            self.row.server_id,
            self.asked,
            step=step.name,
            task=step.task or "",
            host=step.host,
            error=error,
        )

    @property
    def home(self) -> str:
        """The database the server stands in."""
        return self.cell or self.own

    def place(self, where: str) -> str:
        """The database a step runs in."""
        if where == "own":
            return self.own
        name = self.home if where == "cell" else where
        if name not in self.kit.databases:
            raise LookupError(f"no database named {name!r}")
        return name

    def new_step(self, name: str, print_: str, **more: Any) -> StepRow:
        """A journal entry that begins now."""
        return StepRow(
            name, "started", print_, epoch=self.row.epoch, started_at=self.kit.now(), **more
        )

    @contextlib.contextmanager
    def idle(self) -> Iterator[None]:
        """A time in which the saga only waits and leaves its place to another."""
        self.busy(-1)
        try:
            yield
        finally:
            self.busy(+1)

    # -- memory ------------------------------------------------------------------------------

    def recall(self, name: str, formerly: Sequence[str], print_: str) -> StepRow | None:
        """What the journal knows of a step, under its name or a former one.

        Raises NotDeterministic when the name comes twice in a run, or with other arguments.
        """
        if name in self.used:
            raise NotDeterministic(f"step {name} comes twice; give each its key=")
        self.used.add(name)
        known = self.steps.get(name)
        if known is not None:
            if known.fingerprint != print_ and known.fingerprint:
                raise NotDeterministic(
                    f"step {name} is asked with other arguments than the journal has; the saga's"
                    " code changed, or it does not depend on its arguments and step results alone"
                )
            return known
        for old in formerly:
            if old in self.steps:
                return self.steps[old]
        return None

    def check_cancel(self) -> None:
        """Raise Cancelled when the saga was asked to stop, unless it only goes forward."""
        if self.cancel.is_set() and not self.forward:
            raise Cancelled("The operation was cancelled.")

    # -- transactions --------------------------------------------------------------------------

    async def write(self, work: Callable[[Tx], T]) -> T:
        """A transaction on the saga's own database, fenced, with the ends that wait for one."""
        epoch, cell = self.row.epoch, self.cell
        ends, self._unwritten = self._unwritten, []
        bare, self._bare = self._bare, False

        def fenced(tx: Tx) -> tuple[T, bool]:
            guard = journal.guard(tx, self.row.id, epoch)
            for _, end in ends:
                end(tx)
            result = work(tx)
            if cell != self.row.cell:
                journal.set_cell(tx, self.row.id, cell)
            return result, guard.cancel_requested

        known_as(fenced, work)
        try:
            result, asked_to_stop = await self._transact(self.own, fenced)
        except BaseException:
            self._unwritten = [*ends, *self._unwritten]
            self._bare = self._bare or bare
            raise
        self.row.cell = cell
        if asked_to_stop:
            self.cancel.set()
        for name, _ in ends:
            self.kit.at("journal", name)
        return result

    async def settle(self) -> None:
        """Write the end of a remote step that waits for a write; before anything else happens."""
        if self._bare:
            await self.write(_nothing)

    async def abroad(self, place: str, step: str, work: Callable[[Tx], str | None]) -> str | None:
        """A transaction on another database: done once for this step, kept by a receipt there."""
        row, epoch, now = self.row, self.row.epoch, self.kit.now()

        def once(tx: Tx) -> str | None:
            done = journal.receipt(tx, row.id, step, epoch, now)
            if done is not None:
                return done[0]
            result = work(tx)
            if step:
                journal.keep_receipt(tx, row.id, step, epoch, result, now)
            return result

        known_as(once, work)
        for last in (False, False, True):
            try:
                return await self._transact(place, once)
            except exc.IntegrityError:
                # Another run entered this database at the same moment: look at what it left.
                if last:
                    raise
        raise AssertionError("unreachable")

    async def _transact(self, place: str, work: Callable[[Tx], T]) -> T:
        try:
            return await self.kit.databases[place].run(work)
        except Unavailable as error:
            if isinstance(error.__cause__, exc.DBAPIError):
                raise DatabaseDown(str(error)) from error
            raise

    # -- the visible side ---------------------------------------------------------------------

    def show(self, tx: Tx, place: str, step: StepRow, error: ErrorInfo | None = None) -> None:
        """Tell the visible side, inside a transaction of ``place``, if the server is there."""
        visible = self.kit.visible
        if visible is None or not step.task or place != self.home:
            return
        if step.finished_at is None:
            visible.step_started(tx, self.happening(step))
        else:
            visible.step_finished(tx, self.happening(step, error))

    async def show_abroad(self, step: StepRow, error: ErrorInfo | None = None) -> None:
        """Tell the visible side when the server is in another database than the saga."""
        visible, home = self.kit.visible, self.home
        if visible is None or not step.task or home == self.own:
            return
        if step.finished_at is not None and not visible.tells_ends:
            return
        await self.settle()

        def tell(tx: Tx) -> None:
            self.show(tx, home, step, error)

        await self.abroad(home, "", tell)

    # -- steps -----------------------------------------------------------------------------------

    def undo_row(self, step: StepRow, undo: Undoing | None, args: Sequence[Any]) -> UndoRow | None:
        """The compensation entry of a step."""
        if undo is None:
            return None
        host, prefix = step.host, OPERATION
        if isinstance(undo, Undo):
            what, args, host = undo.what, undo.args, undo.host or host
            prefix = IF_ALIVE if undo.even_if_down else OPERATION
        else:
            what = undo
        if isinstance(what, Operation):
            name, place = prefix + what.name, None
            if host is None:
                raise TypeError(f"the undo of {step.name} needs a host")
        else:
            name = what.name
            place = self.place(what.where) if what.where else None
        self._position += 1
        return UndoRow(self._position, step.name, name, encode(list(args)), place, host)

    async def here(
        self, step: StepRow, work: Callable[[Tx], str], undo: UndoRow | None, *, new: bool
    ) -> str:
        """A step in the saga's own database: effect, journal and undo in one transaction."""

        def both(tx: Tx) -> str:
            self.show(tx, self.own, step)
            self.kit.at("before", step.name)
            result = work(tx)
            self.kit.at("effect", step.name)
            done = self._closed(step, "done", result=result)
            journal.put_step(tx, self.row.id, done, new=new)
            if undo is not None:
                journal.push_undo(tx, self.row.id, undo)
            self.show(tx, self.own, done)
            return result

        result = await self.write(both)
        if undo is not None:
            self.undo.append(undo)
        self._measured(step, "done")
        self.kit.at("journal", step.name)
        return result

    async def intend(self, step: StepRow, undo: UndoRow | None, *, new: bool) -> None:
        """Write down that a step begins, with its undo, before anything happens elsewhere."""

        def begin(tx: Tx) -> None:
            self.show(tx, self.own, step)
            journal.put_step(tx, self.row.id, step, new=new)
            if undo is not None and new:
                journal.push_undo(tx, self.row.id, undo)

        await self.show_abroad(step)
        await self.write(begin)
        self.steps[step.name] = step
        if undo is not None and new:
            self.undo.append(undo)
        self.kit.at("intent", step.name)

    async def finish(
        self,
        step: StepRow,
        status: str,
        *,
        result: str | None = None,
        error: ErrorInfo | None = None,
        new: bool = False,
        at_once: bool = False,
    ) -> None:
        """Write down how a step ended.

        A step done in another database has left its receipt there, beside its effect: that keeps
        it from running again, and its end goes with the saga's next write. The end of a remote
        step goes with the write that begins the next step, or is written before that begins
        (`settle`): nothing happens between the two but the saga's own code.
        """
        closed = self._closed(step, status, result=result, error=error)
        self._measured(step, status)

        def close(tx: Tx) -> None:
            journal.put_step(tx, self.row.id, closed, new=new)
            self.show(tx, self.own, closed, error)

        await self.show_abroad(closed, error)
        self.steps[step.name] = closed
        kept = step.place not in (None, self.own)
        if status == "done" and (kept or not (self.together or at_once)):
            self._unwritten.append((step.name, close))
            self._bare = self._bare or not kept
            return
        await self.write(close)
        self.kit.at("journal", step.name)

    def _measured(self, step: StepRow, status: str) -> None:
        name = self.plain.get(step.name)
        if self.kit.measure is not None and name is not None:
            self.kit.measure(name, status, max(self.kit.now() - step.started_at, 0.0))

    def _closed(
        self,
        step: StepRow,
        status: str,
        *,
        result: str | None = None,
        error: ErrorInfo | None = None,
    ) -> StepRow:
        return msgspec.structs.replace(
            step,
            status=status,
            result=result,
            error=encode(error) if error else None,
            epoch=self.row.epoch,
            finished_at=self.kit.now(),
        )

    # -- direction --------------------------------------------------------------------------------

    async def turn_part(self, step: StepRow, error: ErrorInfo) -> None:
        """Begin to take a part of the saga back."""
        row = self._closed(step, "unwinding", error=error)

        def turn(tx: Tx) -> list[UndoRow]:
            new = step.name not in self.steps
            journal.put_step(tx, self.row.id, row, new=new)
            journal.turn(tx, self.row.id, self.kit.now(), backward=False, error=None)
            return journal.undo(tx, self.row.id)

        self.undo = await self.write(turn)
        self.steps[step.name] = row
        self.row.epoch += 1

    async def turn_back(self, error: ErrorInfo) -> None:
        """Begin to take the whole saga back."""
        last = self.kind.failed

        def turn(tx: Tx) -> list[UndoRow]:
            now = self.kit.now()
            journal.turn(tx, self.row.id, now, backward=True, error=error)
            undo = journal.undo(tx, self.row.id)
            if last is not None and not any(u.position == 0 for u in undo):
                place = self.place(last.where) if last.where else None
                bottom = UndoRow(0, "failed", last.name, self.row.args, place)
                journal.push_undo(tx, self.row.id, bottom)
                undo.insert(0, bottom)
            return undo

        self.undo = await self.write(turn)
        self.row.epoch += 1
        self.row.backward, self.row.state, self.row.error = True, "unwinding", encode(error)
        self.kit.at("turned", "")

    async def unwind(self, prefix: str | tuple[str, ...], error: ErrorInfo) -> UndoRow | None:
        """Run the pending undos of a part (``""``: all), newest first.

        None when all are done. An undo that failed is returned with its error and tries written.
        """
        places = {self.home, *(s.place for s in self.steps.values() if s.place)} - {self.own}
        for place in sorted(places):
            # Raise the fence there, so that a step begun by a sleeping runner comes too late.
            await self.abroad(place, "", lambda _tx: None)
        for entry in reversed(self.undo):
            if entry.state == "pending" and entry.step.startswith(prefix):
                try:
                    await self._undo(entry, error)
                except Exception as problem:
                    entry.tries += 1
                    entry.error = encode(describe(problem, entry.step))
                    await self.write(functools.partial(_put_undo, self.row.id, entry))
                    return entry
        return None

    async def _undo(self, entry: UndoRow, error: ErrorInfo) -> None:
        name = f"{entry.step}/undo"
        done = msgspec.structs.replace(
            entry, state="done", error=None, tries=entry.tries + 1, finished_at=self.kit.now()
        )
        env = self.env(entry.step, error)

        def close(tx: Tx) -> None:
            journal.put_undo(tx, self.row.id, done)

        self.kit.at("undo before", entry.step)
        if entry.undo.startswith((OPERATION, IF_ALIVE)):
            await self._undo_operation(entry, name)
        else:
            step = STEPS.get(entry.undo)
            args = step.types.decode_args(entry.args)
            if entry.place == self.own:

                def both(tx: Tx) -> None:
                    step.fn(tx, env, *args)
                    self.kit.at("undo effect", entry.step)
                    close(tx)

                await self.write(both)
                entry.state = "done"
                self.kit.at("undo journal", entry.step)
                return
            if entry.place is not None:
                await self.abroad(entry.place, name, lambda tx: step.fn(tx, env, *args))
            else:
                await bounded(step, env, args)
        self.kit.at("undo effect", entry.step)
        await self.write(close)
        entry.state = "done"
        self.kit.at("undo journal", entry.step)

    async def _undo_operation(self, entry: UndoRow, name: str) -> None:
        operation = OPERATIONS.get(entry.undo.partition(":")[2])
        kind: Any = tuple.__class_getitem__((operation.args,))
        (args,) = decode(entry.args, kind)
        assert entry.host is not None
        try:
            await operate(
                self.kit,
                entry.host,
                operation,
                args,
                OperationId(self.row.id, name, self.row.epoch),
                self.row.server_id or "",
                self.kit.now(),
            )
        except Unavailable as error:
            if not (entry.undo.startswith(IF_ALIVE) and host_is_down(error)):
                raise


def _nothing(_tx: Tx) -> None:
    """A transaction of what waits for one."""


def _put_undo(saga_id: str, entry: UndoRow, tx: Tx) -> None:
    journal.put_undo(tx, saga_id, entry)


async def bounded(step: Step[Any], env: StepEnv[Any], args: Sequence[Any]) -> Any:
    """Run a remote step within its time limit; Timeout after it."""
    try:
        async with asyncio.timeout(step.seconds):
            return await step.fn(env, *args)
    except TimeoutError:
        raise Timeout(f"{step.name} did not end within {step.seconds:g} s.") from None


def failure(step: StepRow) -> Exception:
    """The recorded failure of a step, to be raised again."""
    return restore(decode(step.error, ErrorInfo))
