"""The crash harness: shows that crashes, failures and repetitions do not change a saga's end.

A *scenario* is a saga with a stage to play it on. A stage is a small world of its own: databases,
the neighbours (fakes that survive a crash of the conductor), and an audit. The harness plays the
scenario again and again, each time with one thing going wrong, and returns sentences about what it
found.

A *crash* is a BaseException out of a hook: the runner is left as it stands, without any cleaning,
and a new one with a new owner name takes over when the lease has run out.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa

from kilonova.base.clock import UTC
from kilonova.base.registry import Registry
from kilonova.db.database import Database, Tx
from kilonova.workflows.engine import accept, journal
from kilonova.workflows.engine.journal import SagaRow
from kilonova.workflows.engine.kit import Hook, Kit
from kilonova.workflows.engine.run import PIVOT
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.engine.steps import SAGAS
from kilonova.workflows.engine.tables import TABLES


class Crash(BaseException):
    """The conductor dies here."""


class Boom(Exception):
    """The failure a step is given."""


class JumpClock:
    """A clock on which every wait is over at once and the time has passed nevertheless."""

    def __init__(self, start: dt.datetime | None = None) -> None:
        self._now = start or dt.datetime(2026, 1, 1, tzinfo=UTC)
        self._mono = 0.0

    def now(self) -> dt.datetime:
        # Each look at the clock moves it a little, as on a real machine.
        self._now += dt.timedelta(microseconds=1)
        return self._now

    def monotonic(self) -> float:
        return self._mono

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self._now += dt.timedelta(seconds=max(seconds, 0))
        self._mono += max(seconds, 0)


class Stage(Protocol):
    """A world in which one saga is played once."""

    databases: Mapping[str, Database]

    def kit(self, hook: Hook | None) -> Kit:
        """What a new runner is given; the clock should be a JumpClock that lives with the stage."""

    async def start(self) -> tuple[str, str]:
        """Accept the saga (with fixed ids); the name of its database and its id."""

    async def outcome(self) -> Any:
        """The end state as plain data that two good runs have in common (no times, no epochs)."""

    async def audit(self) -> list[str]:
        """What does not match in this world: leftovers of a saga that failed, missing things of one
        that is done."""

    async def save(self) -> Any:
        """The neighbours' state as JSON-able data (for golden journals)."""

    async def load(self, saved: Any) -> None:
        """Take over what ``save`` gave."""


class Scenario(msgspec.Struct, frozen=True):
    """A saga and how to play it; ``ends`` is its end without trouble (done or undone)."""

    name: str
    saga: str
    stage: Callable[[], AbstractAsyncContextManager[Stage]]
    ends: str = "done"


SCENARIOS: Registry[Scenario] = Registry("scenario")


def scenario(name: str, saga: str, *, ends: str = "done") -> Callable[[Any], Any]:
    """Register an async context manager function that yields a Stage as a scenario of a saga."""

    def wrap(stage: Any) -> Any:
        SCENARIOS.add(name, Scenario(name, saga, stage, ends))
        return stage

    return wrap


def unplayed(package: str = "kilonova.workflows.sagas") -> list[str]:
    """Registered sagas of a package that no scenario plays."""
    played = {s.saga for _, s in SCENARIOS.items()}
    kinds = {k.name for _, k in SAGAS.items() if k.fn.__module__.startswith(package)}
    return sorted(kinds - played)


Moment = tuple[str, str]


class Script:
    """A hook that notes every moment, and crashes or fails at chosen ones, each once.

    ``crash`` and ``fail`` are sets of (moment, step); ``every`` crashes at each first occurrence of
    these kinds of moments.
    """

    def __init__(
        self,
        *,
        crash: set[Moment] | None = None,
        fail: set[Moment] | None = None,
        every: tuple[str, ...] = (),
        all_undos_fail: bool = False,
    ) -> None:
        self.crash = set(crash or ())
        self.fail = set(fail or ())
        self.every = every
        self.all_undos_fail = all_undos_fail
        self.seen: list[Moment] = []
        self.crashes = 0

    def __call__(self, moment: str, step: str) -> None:
        here = (moment, step)
        first = here not in self.seen
        self.seen.append(here)
        if here in self.fail:
            self.fail.discard(here)
            raise Boom(f"{moment} {step}")
        if self.all_undos_fail and moment == "undo effect" and first:
            raise Boom(f"{moment} {step}")
        if here in self.crash or (moment in self.every and first):
            self.crash.discard(here)
            self.crashes += 1
            raise Crash(f"{moment} {step}")


class Played(msgspec.Struct, frozen=True):
    """How a performance ended. ``too_late``: it had ended before it was to be cancelled."""

    state: str
    outcome: Any
    audit: list[str]
    moments: list[Moment]
    crashes: int
    too_late: bool = False


async def finish(
    stage: Stage,
    script: Script,
    *,
    at_crash: Callable[[], Awaitable[None]] | None = None,
    most: int = 500,
) -> None:
    """Run everything on the stage to its end, with a new runner after each crash."""
    for _ in range(most):
        try:
            await Runner(stage.kit(script)).drain()
            return
        except Crash:
            if at_crash is not None:
                await at_crash()
    raise AssertionError(f"still crashing after {most} runners")


async def play(
    what: Scenario, script: Script | None = None, *, cancel_at_crash: bool = False
) -> Played:
    """One performance."""
    script = script or Script()
    async with what.stage() as stage:
        place, saga_id = await stage.start()

        heeded = []

        async def cancel() -> None:
            heeded.append(await stage.databases[place].run(_cancel, saga_id))

        await finish(stage, script, at_crash=cancel if cancel_at_crash else None)
        seen = await _seen(stage, place, saga_id, script)
        return msgspec.structs.replace(seen, too_late=bool(heeded) and not any(heeded))


async def _seen(stage: Stage, place: str, saga_id: str, script: Script) -> Played:
    row = await stage.databases[place].read(journal.load, saga_id)
    state = row.state if row else "gone"
    return Played(state, await stage.outcome(), await stage.audit(), script.seen, script.crashes)


def _cancel(tx: Tx, saga_id: str) -> bool:
    row = journal.load(tx, saga_id)
    if row is None or row.state not in (*journal.RUNNABLE, "stuck"):
        return False
    accept.cancel(tx, row, row.updated_at)
    return True


# -- what is shown of every saga ------------------------------------------------------------------


async def explore(what: Scenario, *, thorough: bool = False, every: int = 1) -> list[str]:
    """Everything the engine promises of this saga; sentences about what does not hold.

    ``thorough`` crashes in every unwinding there can be, not only in that of the last step that
    can fail (and of the last whose failure the saga survives), and also at moments at which the
    same lies in the databases as at the moment before. ``every`` takes only each so-manieth moment
    (which ones depends on the scenario's name), for a quick look.
    """
    good = await play(what)
    problems = [f"without trouble: {p}" for p in good.audit]
    if good.state != what.ends:
        return [*problems, f"without trouble: the saga ended {good.state}"]
    moments = _unique(good.moments) if thorough else _distinct(good.moments)
    chosen = _Choice(what.name, every)
    problems += await _crashes(what, good, chosen(moments))
    problems += await _twice(what, good)
    problems += await _cancels(what, good, chosen(_before_pivot(moments)))
    problems += await _failures(what, good, chosen, thorough=thorough)
    return problems


class _Choice:
    """Picks each so-manieth of a list, another one of each list."""

    def __init__(self, name: str, every: int) -> None:
        self._every = every
        self._first = zlib.crc32(name.encode())

    def __call__(self, moments: list[Moment]) -> list[Moment]:
        self._first += 1
        return moments[self._first % self._every :: self._every]


def _before_pivot(moments: list[Moment]) -> list[Moment]:
    """The moments before the saga's direction is settled."""
    ends = [n for n, m in enumerate(moments) if m in (("journal", PIVOT), ("turned", ""))]
    return moments[: min(ends, default=len(moments))]


def _unique(moments: list[Moment]) -> list[Moment]:
    return list(dict.fromkeys(moments))


def _distinct(moments: list[Moment]) -> list[Moment]:
    """Moments without those at which just the same lies in the databases as at the one before."""
    same = ("before", "undo before", "ending")
    return [m for n, m in enumerate(_unique(moments)) if n == 0 or m[0] not in same]


def _compare(title: str, good: Played, now: Played) -> list[str]:
    problems = [f"{title}: {p}" for p in now.audit]
    if now.state != good.state:
        problems.append(f"{title}: ended {now.state}, not {good.state}")
    elif now.outcome != good.outcome:
        problems.append(f"{title}: outcome {now.outcome!r}, not {good.outcome!r}")
    return problems


async def _crashes(what: Scenario, good: Played, moments: list[Moment]) -> list[str]:
    problems = []
    for moment in moments:
        now = await play(what, Script(crash={moment}))
        problems += _compare(f"crash at {' '.join(moment)}", good, now)
    return problems


async def _twice(what: Scenario, good: Played) -> list[str]:
    now = await play(what, Script(every=("effect",)))
    return _compare("every step twice", good, now)


async def _cancels(what: Scenario, good: Played, moments: list[Moment]) -> list[str]:
    if SAGAS.get(what.saga).forward:
        return []
    problems = []
    for moment in moments:
        if moment[0] == "ended":
            continue
        title = f"cancel at {' '.join(moment)}"
        now = await play(what, Script(crash={moment}), cancel_at_crash=True)
        problems += [f"{title}: {p}" for p in now.audit]
        if now.state != (good.state if now.too_late else "cancelled"):
            problems.append(f"{title}: ended {now.state}")
    return problems


async def _failures(what: Scenario, good: Played, chosen: _Choice, *, thorough: bool) -> list[str]:
    problems = []
    last: dict[str, tuple[Moment, Played]] = {}
    for moment in chosen([m for m in _unique(good.moments) if m[0] in ("before", "effect")]):
        title = f"failure at {' '.join(moment)}"
        failed = await play(what, Script(fail={moment}))
        problems += [f"{title}: {p}" for p in failed.audit]
        if failed.state not in ("done", "undone"):
            problems.append(f"{title}: ended {failed.state}")
        last[f"{moment}" if thorough else failed.state] = moment, failed
    for moment, failed in last.values():
        problems += await _while_undoing(what, moment, failed, chosen, thorough=thorough)
    return problems


async def _while_undoing(
    what: Scenario, moment: Moment, failed: Played, chosen: _Choice, *, thorough: bool
) -> list[str]:
    title = f"failure at {' '.join(moment)}"
    problems = []
    seen = _unique(failed.moments)
    wanted = seen if thorough else _distinct(failed.moments)
    for later in chosen([m for m in seen[seen.index(moment) + 1 :] if m in wanted]):
        now = await play(what, Script(fail={moment}, crash={later}))
        problems += _compare(f"{title}, crash at {' '.join(later)}", failed, now)
    now = await play(what, Script(fail={moment}, every=("undo effect",)))
    problems += _compare(f"{title}, every undo twice", failed, now)
    now = await play(what, Script(fail={moment}, all_undos_fail=True))
    problems += _compare(f"{title}, every undo fails once", failed, now)
    return problems


# -- golden journals ---------------------------------------------------------------------------


class Golden(msgspec.Struct):
    """The journals of one release: what lay in the databases at each moment it could have died."""

    scenario: str
    outcome: Any
    moments: list[GoldenMoment]


class GoldenMoment(msgspec.Struct):
    """``databases`` is name → table → rows; ``world`` is what ``Stage.save`` gave."""

    after: Moment
    databases: dict[str, dict[str, list[dict[str, Any]]]]
    world: Any


async def record(what: Scenario) -> Golden:
    """The golden journals of a saga as this release writes them."""
    good = await play(what)
    made = []
    for moment in _unique(good.moments):
        if moment[0] not in ("intent", "journal"):
            continue
        async with what.stage() as stage:
            await stage.start()
            try:
                await Runner(stage.kit(Script(crash={moment}))).drain()
            except Crash:
                rows = {name: await db.read(_dump) for name, db in stage.databases.items()}
                made.append(GoldenMoment(moment, rows, await stage.save()))
    return Golden(what.name, good.outcome, made)


async def replay(what: Scenario, golden: Golden) -> list[str]:
    """Finish every golden journal with today's code; sentences about those that end otherwise."""
    problems = []
    for moment in golden.moments:
        title = f"golden {' '.join(moment.after)}"
        async with what.stage() as stage:
            for name, rows in moment.databases.items():
                await stage.databases[name].run(_restore, rows)
            await stage.load(moment.world)
            await finish(stage, Script())
            problems += [f"{title}: {p}" for p in await stage.audit()]
            outcome = msgspec.json.decode(msgspec.json.encode(await stage.outcome()))
            if outcome != golden.outcome:
                problems.append(f"{title}: outcome {outcome!r}, not {golden.outcome!r}")
    return problems


def _dump(tx: Tx) -> dict[str, list[dict[str, Any]]]:
    return {
        table.name: [
            {name: value for name, value in row.items() if value is not None}
            for row in tx.execute(sa.select(table)).mappings()
        ]
        for table in TABLES
    }


def _restore(tx: Tx, rows: dict[str, list[dict[str, Any]]]) -> None:
    for table in TABLES:
        tx.execute(table.delete())
        # Columns newer than the golden file get what a migration would give them: their default.
        for row in rows.get(table.name, []):
            tx.execute(table.insert().values(**{k: v for k, v in row.items() if k in table.c}))


async def states(databases: Mapping[str, Database]) -> list[tuple[str, str]]:
    """(saga name, state) of every saga of these databases, oldest first."""
    found: list[SagaRow] = []
    for db in databases.values():
        found += await db.read(_all)
    return [(row.name, row.state) for row in sorted(found, key=lambda r: r.created_at)]


def _all(tx: Tx) -> list[SagaRow]:
    columns = [TABLES.sagas.c[f] for f in SagaRow.__struct_fields__]
    return [SagaRow(*row) for row in tx.execute(sa.select(*columns))]
