"""Example sagas over two databases, a neighbour and hosts, with the small world they act on."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.base.errors import Conflict, NotFound
from kilonova.base.ids import SeededIds
from kilonova.db.database import Database, Tx
from kilonova.domain.operations import Operation
from kilonova.messaging.memory import MemoryBus
from kilonova.workflows.engine.accept import accept, hold, let_go
from kilonova.workflows.engine.journal import SAGAS
from kilonova.workflows.engine.kit import Hook, Kit, Limits
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import Asked, StepEnv, Undo, remote, saga, transaction
from kilonova.workflows.engine.tables import tables
from kilonova.workflows.engine.waits import Wanted, signal
from kilonova.workflows.harness import JumpClock, scenario, states
from tests.sagas.agent import FakeAgent

META = sa.MetaData()
tables(META)
THINGS = sa.Table(
    "things",
    META,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("value", sa.String(200), nullable=False),
)


class Guest(msgspec.Struct, frozen=True):
    server_id: str
    host: str


SPAWN = Operation("example.spawn", Guest, Guest, seconds=600)
RESUME = Operation("example.resume", Guest, Guest, seconds=60)
DESTROY = Operation("example.destroy", Guest, Guest, seconds=60)


class Neighbour:
    """Remembers ports, as a network service would; knobs make its methods fail."""

    def __init__(self) -> None:
        self.ports: dict[str, str] = {}
        self.failing: dict[str, int] = {}

    def fails(self, method: str, times: int = 1) -> None:
        self.failing[method] = times

    def _maybe_fail(self, method: str) -> None:
        if self.failing.get(method, 0) > 0:
            self.failing[method] -= 1
            raise Conflict(f"{method} refused")

    async def bind(self, port: str, host: str) -> None:
        self._maybe_fail("bind")
        self.ports[port] = host

    async def unbind(self, port: str) -> None:
        self._maybe_fail("unbind")
        self.ports.pop(port, None)


Env = StepEnv[Neighbour]


def create(tx: Tx) -> None:
    """Make the tables; on SQLite from text made once, as the harness opens many worlds."""
    if tx.dialect.name != "sqlite":
        META.create_all(tx)
        return
    for statement in _sqlite_ddl():
        tx.exec_driver_sql(statement)


def clear(tx: Tx) -> None:
    """Empty all tables."""
    for table in META.sorted_tables:
        tx.execute(table.delete())


SPARE: list[dict[str, Database]] = []
"""Emptied databases in memory: the harness opens many worlds, and each engine compiles anew."""


@functools.cache
def _sqlite_ddl() -> list[str]:
    made: list[str] = []
    engine = sa.create_mock_engine(
        "sqlite://", lambda ddl, *_: made.append(str(ddl.compile(dialect=engine.dialect)))
    )
    META.create_all(engine, checkfirst=False)
    return made


def put(tx: Tx, name: str, value: str) -> None:
    tx.execute(THINGS.delete().where(THINGS.c.name == name))
    tx.execute(THINGS.insert().values(name=name, value=value))


def drop(tx: Tx, name: str) -> None:
    tx.execute(THINGS.delete().where(THINGS.c.name == name))


def things(tx: Tx) -> dict[str, str]:
    return {r.name: r.value for r in tx.execute(sa.select(THINGS))}


# -- a build over two databases, a neighbour and hosts ------------------------------------------


@transaction(name="example.select_hosts")
def select_hosts(tx: Tx, env: Env, server_id: str) -> list[str]:
    return ["h1", "h2"]


@transaction(db="cell", name="example.claim")
def claim(tx: Tx, env: Env, server_id: str, host: str) -> None:
    if things(tx).get(f"claim:{server_id}"):
        raise Conflict("claimed twice")
    put(tx, f"claim:{server_id}", host)


@transaction(db="cell", name="example.release")
def release(tx: Tx, env: Env, server_id: str, host: str) -> None:
    drop(tx, f"claim:{server_id}")


@transaction(db="cell", name="example.enter")
def enter_cell(tx: Tx, env: Env, server_id: str) -> str:
    hold(tx, env.saga_id, env.saga_name, server_id, clock=env.clock)
    put(tx, f"server:{server_id}", "BUILDING")
    return "cell1"


@transaction(db="cell", name="example.leave")
def leave_cell(tx: Tx, env: Env, server_id: str) -> None:
    let_go(tx, env.saga_id)
    drop(tx, f"server:{server_id}")


@remote(name="example.bind")
async def bind_port(env: Env, host: str, port: str) -> str:
    await env.world.bind(port, host)
    return env.ids.uuid()


@remote(name="example.unbind")
async def unbind_port(env: Env, host: str, port: str) -> None:
    await env.world.unbind(port)


@transaction(db="cell", name="example.finish")
def finish(tx: Tx, env: Env, server_id: str) -> None:
    let_go(tx, env.saga_id)
    put(tx, f"server:{server_id}", "ACTIVE")


@transaction(name="example.quota")
def take_quota(tx: Tx, env: Env, server_id: str) -> int:
    put(tx, f"quota:{server_id}", "1")
    return 1


@transaction(name="example.give_quota")
def give_quota(tx: Tx, env: Env, server_id: str) -> None:
    drop(tx, f"quota:{server_id}")


@transaction(name="example.failed")
def say_why(tx: Tx, env: Env, server_id: str, ports: list[str]) -> None:
    assert env.error is not None
    put(tx, f"fault:{server_id}", env.error.message or env.error.type)


@saga("example.build", action="create", failed=say_why)
async def build(s: Saga, server_id: str, ports: list[str]) -> str:
    await s.do(take_quota, server_id, undo=give_quota)
    s.cell = "cell1"
    for host in await s.do(select_hosts, server_id):
        if await s.attempt(build_on, server_id, ports, host, key=host):
            break
    else:
        raise NotFound(f"No host for {server_id}: {s.last_error}")
    await s.do(finish, server_id)
    return host


async def build_on(s: Saga, server_id: str, ports: list[str], host: str) -> None:
    await s.do(claim, server_id, host, undo=release)
    await s.do(enter_cell, server_id, undo=leave_cell)
    await s.each(bind_port, host, ports, undo=unbind_port, task="networking")
    guest = Guest(server_id, host)
    await s.on(host, SPAWN, guest, undo=Undo(DESTROY, guest), task="spawning")
    await s.wait(Wanted(server_id, tuple(f"plugged:{p}" for p in ports)), within=60)
    await s.on(host, RESUME, guest)


# -- a delete that only goes forward -------------------------------------------------------------


@remote(name="example.delete_port")
async def delete_port(env: Env, port: str) -> None:
    await env.world.unbind(port)


@transaction(db="cell", name="example.forget")
def forget(tx: Tx, env: Env, server_id: str) -> None:
    drop(tx, f"server:{server_id}")
    drop(tx, f"claim:{server_id}")


@saga("example.delete", action="delete", forward=True)
async def delete(s: Saga, server_id: str, ports: list[str], host: str) -> None:
    await s.on(host, DESTROY, Guest(server_id, host))
    await s.each(delete_port, ports, limit=4)
    await s.do(forget, server_id)
    await s.do(give_quota, server_id)


# -- the world -----------------------------------------------------------------------------------


class World:
    """Two databases, a neighbour and two hosts on a bus; survives its conductors."""

    def __init__(self, urls: tuple[str, str] | None = None) -> None:
        self.in_memory = urls is None
        self.databases = SPARE.pop() if SPARE and urls is None else self._databases(urls)
        self.clock = JumpClock()
        self.bus = MemoryBus()
        self.neighbour = Neighbour()
        self.guests: dict[str, str] = {}
        self.broken_hosts: set[str] = set()
        self.dead_hosts: set[str] = set()
        self.plugs = True
        self.limits = Limits(undo_tries=4, forward_tries=4)
        self.ids = SeededIds("world")
        self.agents = {
            host: FakeAgent(
                self.bus,
                host,
                {
                    SPAWN.name: self.spawn,
                    RESUME.name: self.resume,
                    DESTROY.name: self.destroy,
                },
            )
            for host in ("h1", "h2")
        }

    @staticmethod
    def _databases(urls: tuple[str, str] | None) -> dict[str, Database]:
        api, cell = urls or ("sqlite://", "sqlite://")
        made = {"api": Database(api, name="api"), "cell1": Database(cell, name="cell1")}
        for db in made.values():
            db.run_sync(create)
        return made

    async def open(self) -> None:
        for agent in self.agents.values():
            await agent.start()

    async def close(self) -> None:
        for agent in self.agents.values():
            await agent.stop()
        await self.bus.close()
        if self.in_memory:
            for db in self.databases.values():
                await db.run(clear)
            SPARE.append(self.databases)
            return
        for db in self.databases.values():
            db.close()

    def kit(self, hook: Hook | None = None, **more: Any) -> Kit:
        given = {
            "databases": self.databases,
            "clock": self.clock,
            "world": self.neighbour,
            "bus": self.bus,
            "alive": self.alive,
            "limits": self.limits,
            "hook": hook,
        }
        return Kit(**(given | more))

    async def alive(self, host: str) -> bool:
        return host not in self.dead_hosts

    async def spawn(self, guest: Guest) -> Guest:
        if guest.host in self.broken_hosts:
            raise Conflict(f"{guest.host} has no memory")
        self.guests[guest.server_id] = guest.host
        if self.plugs:
            for port in [p for p, h in self.neighbour.ports.items() if h == guest.host]:
                await self.plug(guest.server_id, port)
        return guest

    async def plug(self, server_id: str, port: str) -> None:
        def write(tx: Tx) -> None:
            signal(tx, server_id, f"plugged:{port}", ids=self.ids, clock=self.clock)

        await self.databases["cell1"].run(write)

    async def resume(self, guest: Guest) -> Guest:
        if self.guests.get(guest.server_id) != guest.host:
            raise NotFound("no such guest")
        return guest

    async def destroy(self, guest: Guest) -> Guest:
        self.guests.pop(guest.server_id, None)
        return guest

    async def accept(self, name: str, *args: Any, server_id: str = "s1", **more: Any) -> str:
        def work(tx: Tx) -> str:
            return accept(
                tx,
                name,
                args,
                server_id=server_id,
                asked=Asked(request_id="req-1", project_id="p1"),
                ids=self.ids,
                clock=self.clock,
                **more,
            )

        return await self.databases["api"].run(work)

    async def things(self) -> dict[str, dict[str, str]]:
        return {name: await db.read(things) for name, db in self.databases.items()}


class BuildStage(World):
    """One build of one server."""

    async def start(self) -> tuple[str, str]:
        return "api", await self.accept("example.build", "s1", ["p1", "p2"])

    async def outcome(self) -> Any:
        return {
            "things": await self.things(),
            "ports": self.neighbour.ports,
            "guests": self.guests,
            "holds": await self.holds(),
        }

    async def states(self) -> list[tuple[str, str]]:
        return await states(self.databases)

    async def holds(self) -> list[str]:
        found = []
        for db in self.databases.values():
            found += await db.read(
                lambda tx: list(
                    tx.execute(
                        sa.select(SAGAS.c.name).where(SAGAS.c.living_for.is_not(None))
                    ).scalars()
                )
            )
        return found

    async def audit(self) -> list[str]:
        things = await self.things()
        problems = [f"{name} still holds a server" for name in await self.holds()]
        cell = {k: v for k, v in things["cell1"].items() if not k.startswith("fault")}
        if cell.get("server:s1") == "ACTIVE":
            host = cell["claim:s1"]
            if self.guests != {"s1": host}:
                problems.append(f"guests are {self.guests}, the claim is on {host}")
            if self.neighbour.ports != {"p1": host, "p2": host}:
                problems.append(f"ports are {self.neighbour.ports}")
            return problems
        if cell:
            problems.append(f"left in the cell: {cell}")
        if self.guests or self.neighbour.ports:
            problems.append(f"left: guests {self.guests}, ports {self.neighbour.ports}")
        if "quota:s1" in things["api"]:
            problems.append("quota is still used")
        return problems

    async def save(self) -> Any:
        return {
            "things": await self.things(),
            "ports": self.neighbour.ports,
            "guests": self.guests,
            "broken": sorted(self.broken_hosts),
        }

    async def load(self, saved: Any) -> None:
        for name, rows in saved["things"].items():
            for key, value in rows.items():
                await self.databases[name].run(put, key, value)
        self.neighbour.ports = saved["ports"]
        self.guests = saved["guests"]
        self.broken_hosts = set(saved["broken"])


class DeleteStage(BuildStage):
    """One delete of a server that is there."""

    async def start(self) -> tuple[str, str]:
        await self.databases["cell1"].run(put, "server:s1", "ACTIVE")
        await self.databases["cell1"].run(put, "claim:s1", "h1")
        await self.databases["api"].run(put, "quota:s1", "1")
        self.neighbour.ports.update(p1="h1", p2="h1")
        self.guests["s1"] = "h1"
        saga_id = await self.accept("example.delete", "s1", ["p1", "p2"], "h1", cell="cell1")
        return "api", saga_id


@contextlib.asynccontextmanager
async def opened(stage: Any) -> AsyncIterator[Any]:
    await stage.open()
    try:
        yield stage
    finally:
        await stage.close()


@scenario("build", "example.build")
def build_stage() -> Any:
    return opened(BuildStage())


@scenario("build, first host broken", "example.build")
def rebuild_stage() -> Any:
    stage = BuildStage()
    stage.broken_hosts.add("h1")
    return opened(stage)


@scenario("delete", "example.delete")
def delete_stage() -> Any:
    return opened(DeleteStage())
