"""What a saga function holds in its hand: do, each, attempt, on, wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from kilonova.base.aio import gather_bounded
from kilonova.base.errors import Fault, Internal, Timeout
from kilonova.domain.operations import Operation, OperationId
from kilonova.workflows.engine.errors import (
    Cancelled,
    ErrorInfo,
    Parked,
    describe,
    restore,
)
from kilonova.workflows.engine.journal import StepRow
from kilonova.workflows.engine.operations import host_is_down, operate
from kilonova.workflows.engine.run import PIVOT, Run, bounded, failure
from kilonova.workflows.engine.steps import Asked, Step, Undoing, decode, encode, fingerprint
from kilonova.workflows.engine.waits import Wanted

R = TypeVar("R")
A = TypeVar("A", bound=msgspec.Struct)


class StepBroke(Parked):
    """A step of a forward saga failed: the saga is parked by the runner with this error."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message)
        self.info = info


class PartStuck(Parked):
    """An undo inside an attempt failed: the saga is parked by the runner."""

    def __init__(self, info: ErrorInfo, tries: int) -> None:
        super().__init__(info.message)
        self.info = info
        self.tries = tries


class Saga:
    """A saga (or a part of it) as its function sees it.

    The function is run again from the top after a crash; what was done before is answered from the
    journal. It must therefore depend on its arguments and on the results of its steps alone.
    """

    def __init__(self, run: Run, scope: str = "", scopes: Sequence[str] = ()) -> None:
        self._run = run
        self._scope = scope
        self._scopes = tuple(scopes)
        self.last_error: Fault | None = None

    @property
    def id(self) -> str:
        """The saga's id."""
        return self._run.row.id

    @property
    def server_id(self) -> str | None:
        """The server the saga holds."""
        return self._run.row.server_id

    @property
    def asked(self) -> Asked:
        """Who asked for it."""
        return self._run.asked

    @property
    def settings(self) -> Any:
        """The settings given to the runner."""
        return self._run.kit.settings

    @property
    def cell(self) -> str | None:
        """The name of the database the server stands in; assign a step's result to move it."""
        return self._run.cell

    @cell.setter
    def cell(self, name: str | None) -> None:
        self._run.cell = name

    async def do(
        self,
        step: Step[R],
        *args: Any,
        undo: Undoing | None = None,
        key: str = "",
        task: str | None = None,
        at: str | None = None,
        formerly: Sequence[str] = (),
    ) -> R:
        """Run one step, or answer it from the journal; its result.

        ``undo`` takes it back with the same arguments (``Undo`` for others). ``key`` tells
        repetitions apart. ``task`` is the visible task_state. ``at`` names another database than
        the step's own choice. ``formerly`` lists former names of the step in this saga, with their
        ``#key`` where that was another. Raises the Fault the step raised, StepFailed for anything
        else, Cancelled when asked to stop.
        """
        run = self._run
        name, old = self._names(step.name, key, (*step.formerly, *formerly))
        print_ = fingerprint(args)
        known = run.recall(name, old, print_)
        if known is not None and known.status != "started":
            answer: R = self._answer(known, step.types.result)
            return answer
        run.check_cancel()
        place = run.place(at or step.where) if step.where else None
        row = known or run.new_step(name, print_, place=place, task=task)
        entry = run.undo_row(row, undo, args) if known is None else None
        # A step with an undo is written down before it begins: one that is not was never begun.
        env = run.env(row.name, again=known is not None or entry is None)

        def work(tx: Any) -> str:
            return encode(step.fn(tx, env, *args))

        # A step that nothing takes back and nobody watches needs no word before it: a remote one
        # may be repeated, and one at the server's home left its receipt there.
        quiet = known is None and place in (None, run.home) and entry is None and task is None
        unwritten = known is None and (quiet or place == run.own)
        if place == run.own or quiet:
            await run.settle()
        else:
            await run.intend(row, entry, new=known is None)
        try:
            if place == run.own:
                text = await run.here(row, work, entry, new=known is None)
            else:
                run.kit.at("before", row.name)
                if place is not None:
                    text = await run.abroad(place, row.name, work) or "null"
                else:
                    text = encode(await bounded(step, env, args))
                run.kit.at("effect", row.name)
        except Exception as error:
            raise await self._failed(row, error, new=unwritten) from error
        if place != run.own:
            await run.finish(row, "done", result=text, new=unwritten)
        result: R = decode(text, step.types.result)
        return result

    async def each(
        self,
        step: Step[R],
        *parts: Any,
        undo: Undoing | None = None,
        key: Callable[[Any], str] | None = None,
        task: str | None = None,
        limit: int = 1,
        formerly: Sequence[str] = (),
    ) -> list[R]:
        """The same step for every item of the last argument; results in the order of the items.

        The arguments before it are given to each. ``key`` names an item, else its ``key`` or ``id``
        or its position does. ``limit`` is how many run at once.
        """
        *shared, items = parts
        named = [(item, _key(item, n, key)) for n, item in enumerate(items)]

        async def one(pair: tuple[Any, str]) -> R:
            item, name = pair
            return await self.do(
                step, *shared, item, undo=undo, key=name, task=task, formerly=formerly
            )

        if limit <= 1:
            return [await one(pair) for pair in named]
        run = self._run
        await run.settle()
        run.together += 1
        try:
            return await gather_bounded(one, named, limit=limit)
        finally:
            run.together -= 1

    async def on(
        self,
        host: str,
        operation: Operation[A, R],
        args: A,
        *,
        undo: Undoing | None = None,
        key: str = "",
        task: str | None = None,
        server_id: str | None = None,
        even_if_down: bool = False,
        formerly: Sequence[str] = (),
    ) -> R:
        """Have the agent of ``host`` do an operation; its result.

        An undo that is an operation runs on the same host. Raises the Fault of the agent,
        Unavailable when the agent is dead, Timeout after the operation's time. ``even_if_down``
        goes on without a result (None) when the agent is dead: somebody else does the work when
        the host returns.
        """
        run = self._run
        name, old = self._names(operation.name, key, formerly)
        print_ = fingerprint((host, args))
        known = run.recall(name, old, print_)
        if known is not None and known.status != "started":
            answer: R = self._answer(known, operation.result)
            return answer
        run.check_cancel()
        row = known or run.new_step(name, print_, host=host, task=task)
        entry = run.undo_row(row, undo, (args,)) if known is None else None
        identity = OperationId(run.row.id, row.name, run.row.epoch)
        server = server_id or run.row.server_id or ""
        await run.intend(row, entry, new=known is None)
        try:
            run.kit.at("before", row.name)
            made = await self._or_cancel(
                operate(run.kit, host, operation, args, identity, server, row.started_at)
            )
            run.kit.at("effect", row.name)
        except Cancelled:
            raise
        except Exception as error:
            if even_if_down and host_is_down(error):
                await run.finish(row, "skipped")
                nothing: R = self._answer(run.steps[row.name], operation.result)
                return nothing
            raise await self._failed(row, error, new=False) from error
        text = encode(made)
        await run.finish(row, "done", result=text)
        result: R = decode(text, operation.result)
        return result

    async def attempt(
        self,
        part: Callable[..., Awaitable[Any]],
        *args: Any,
        key: str = "",
        formerly: Sequence[str] = (),
    ) -> bool:
        """Run a part that may fail: True when it worked, False when it failed and was taken back.

        After False ``last_error`` says why. A cancel is no failure of the part and goes on.
        """
        run = self._run
        name, old = self._names(part.__name__, key, formerly)
        known = run.recall(name, old, "")
        if known is not None and known.status == "done":
            run.cell = decode(known.result, str | None)
            return True
        if known is not None and known.status == "failed":
            self.last_error = restore(decode(known.error, ErrorInfo))
            return False
        row = known or run.new_step(name, "")
        before = run.cell
        if known is None:
            inner = Saga(run, f"{name}/", tuple(f"{n}/" for n in old))
            try:
                await part(inner, *args)
            except Cancelled:
                raise
            except Exception as error:
                run.kit.at("part failed", name)
                await run.turn_part(row, describe(error, name))
            else:
                await run.finish(row, "done", result=encode(run.cell), new=True)
                return True
        info: ErrorInfo = decode(run.steps[row.name].error, ErrorInfo)
        broken = await run.unwind(tuple(f"{n}/" for n in (row.name, name, *old)), info)
        if broken is not None:
            raise PartStuck(decode(broken.error, ErrorInfo), broken.tries)
        run.cell = before
        await run.finish(row, "failed", error=info)
        self.last_error = restore(info)
        return False

    async def wait(
        self,
        wanted: Wanted,
        *,
        within: float,
        key: str = "",
        task: str | None = None,
        at: str | None = None,
        formerly: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Wait up to ``within`` seconds for signals written since the saga began; their payloads.

        Looks into the database the server stands in, or ``at``. Raises Timeout when they do not
        come, Internal when a bad one does, Cancelled when asked to stop.
        """
        run = self._run
        name, old = self._names("wait", key or str(wanted)[:80], formerly)
        print_ = fingerprint((wanted,))
        known = run.recall(name, old, print_)
        if known is not None and known.status != "started":
            found: dict[str, Any] = self._answer(known, dict[str, Any])
            return found
        run.check_cancel()
        row = known or run.new_step(name, print_, task=task)
        place = at or run.home
        await run.intend(row, None, new=known is None)
        try:
            run.kit.at("before", row.name)
            with run.idle():
                payloads = await self._until(wanted, place, row.started_at + within)
        except Cancelled:
            raise
        except Exception as error:
            raise await self._failed(row, error, new=False) from error
        finally:
            run.kit.watch.forget(place, wanted.subject)
        result = {n: msgspec.json.decode(text) for n, text in payloads.items()}
        await run.finish(row, "done", result=encode(result))
        return result

    async def pivot(self) -> None:
        """From here on the saga only goes forward, as a ``forward`` saga does from its start.

        A cancel that comes later is not heeded; whoever waits for the saga's end gets its turn.
        """
        run = self._run
        if run.recall(PIVOT, (), "") is not None:
            return
        await run.settle()
        run.check_cancel()
        await run.finish(run.new_step(PIVOT, ""), "done", new=True, at_once=True)

    # -- inside ------------------------------------------------------------------------------

    async def _until(self, wanted: Wanted, place: str, deadline: float) -> dict[str, str]:
        run = self._run
        while True:
            seen = await run.kit.watch.look(place, wanted, run.row.created_at)
            if seen.bad:
                raise Internal(f"{seen.bad} was reported while waiting for {wanted}.")
            if seen.payloads is not None:
                return seen.payloads
            left = deadline - run.kit.now()
            if left <= 0:
                raise Timeout(f"{wanted} did not come in time.")
            await self._or_cancel(run.kit.watch.pause(min(run.kit.limits.poll, left)))

    async def _or_cancel(self, work: Awaitable[R]) -> R:
        run = self._run
        if run.forward:
            return await work
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(run.cancel.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            for each in (task, stop):
                each.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)
        run.check_cancel()
        raise AssertionError("unreachable")

    async def _failed(self, row: StepRow, error: Exception, *, new: bool) -> BaseException:
        """Write the failure down; what to raise."""
        info = describe(error, row.name)
        if self._run.forward and not self._scope:
            return StepBroke(info)
        await self._run.finish(row, "failed", error=info, new=new)
        return restore(info)

    def _answer(self, known: StepRow, kind: Any) -> Any:
        if known.status == "failed":
            raise failure(known)
        return None if known.status == "skipped" else decode(known.result or "null", kind)

    def _names(self, name: str, key: str, formerly: Sequence[str]) -> tuple[str, list[str]]:
        tail = f"#{key}" if key else ""
        spelled = [word if "#" in word else f"{word}{tail}" for word in (name, *formerly)]
        full = f"{self._scope}{spelled[0]}"
        if len(full) > 255:
            raise ValueError(f"the step name {full[:40]}… is too long; give a shorter key=")
        self._run.plain[full] = name
        others = [f"{scope}{s}" for scope in (self._scope, *self._scopes) for s in spelled]
        return full, [n for n in others if n != full]


def _key(item: Any, position: int, key: Callable[[Any], str] | None) -> str:
    if key is not None:
        return key(item)
    if isinstance(item, (str, int)):
        return str(item)
    for name in ("key", "id"):
        found = getattr(item, name, None)
        if isinstance(found, (str, int)) and found != "":
            return str(found)
    return str(position)
