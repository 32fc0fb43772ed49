"""Random histories of requests against a model of what Placement has to answer and to remember."""

from __future__ import annotations

import asyncio
import random
import shutil
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kilonova.base.clock import SystemClock
from kilonova.base.ids import RandomIds
from kilonova.db.database import Database
from kilonova.placement.policies import Enforcer
from kilonova.placement.queries import Group, Wanted
from kilonova.placement.rows import Inventory
from kilonova.placement.service import application, prepare
from kilonova.placement.store.snapshot import Stock
from kilonova.web.testing import Client
from tests.unit.placement.test_candidates_model import Plain

HOSTS = tuple(str(uuid.UUID(int=100 + n)) for n in range(4))
CONSUMERS = tuple(str(uuid.UUID(int=200 + n)) for n in range(3))
PLACES = tuple(str(uuid.UUID(int=300 + n)) for n in range(2))
CLASSES = ("VCPU", "DISK_GB")
STEPS = 40


class Host(msgspec.Struct):
    """What the model knows of a provider."""

    parent: str | None = None
    generation: int = 0
    inventories: dict[str, Inventory] = {}
    traits: frozenset[str] = frozenset()
    aggregates: frozenset[str] = frozenset()


class Holder(msgspec.Struct):
    """What the model knows of a consumer."""

    generation: int
    held: dict[str, dict[str, int]]


class Model:
    """Says what each request has to be answered with, and does the same as it should."""

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        self.holders: dict[str, Holder] = {}

    def used(self, host: str, name: str) -> int:
        return sum(one.held.get(host, {}).get(name, 0) for one in self.holders.values())

    def root(self, host: str) -> str:
        while (parent := self.hosts[host].parent) is not None:
            host = parent
        return host

    def create(self, host: str, parent: str | None) -> int:
        if parent == host or (parent is not None and parent not in self.hosts):
            return 400
        if host in self.hosts:
            return 409
        self.hosts[host] = Host(parent)
        return 200

    def delete(self, host: str) -> int:
        if host not in self.hosts:
            return 404
        children = any(one.parent == host for one in self.hosts.values())
        if children or any(host in one.held for one in self.holders.values()):
            return 409
        del self.hosts[host]
        return 204

    def move(self, host: str, parent: str | None) -> int:
        if host not in self.hosts:
            return 404
        above: str | None = parent
        if parent is not None and parent not in self.hosts:
            return 400
        while above is not None:
            if above == host:
                return 400
            above = self.hosts[above].parent
        self.hosts[host].parent = parent
        return 200

    def write(self, host: str, generation: int, **values: Any) -> int:
        if host not in self.hosts:
            return 404
        there = self.hosts[host]
        if there.generation != generation:
            return 409
        kept = values.get("inventories", there.inventories)
        if any(self.used(host, name) for name in there.inventories if name not in kept):
            return 409
        for name, value in values.items():
            setattr(there, name, value)
        there.generation += 1
        return 200

    def claim(self, claims: dict[str, tuple[int | None, dict[str, dict[str, int]]]]) -> int:
        for consumer, (generation, _) in claims.items():
            there = self.holders.get(consumer)
            if generation != (None if there is None else there.generation):
                return 409
        if any(host not in self.hosts for _, held in claims.values() for host in held):
            return 400
        before = dict(self.holders)
        for consumer, (generation, held) in claims.items():
            self.holders.pop(consumer, None)
            if held:
                self.holders[consumer] = Holder((generation or 0) + 1, held)
        wanted = {host for _, held in claims.values() for host in held}
        for _, held in claims.values():
            for host, part in held.items():
                for name, amount in part.items():
                    inventory = self.hosts[host].inventories.get(name)
                    if (
                        inventory is None
                        or not inventory.admits(amount)
                        or self.used(host, name) > inventory.capacity
                    ):
                        self.holders = before
                        return 409
        for host in wanted:
            self.hosts[host].generation += 1
        return 204

    def release(self, consumer: str) -> int:
        return 204 if self.holders.pop(consumer, None) else 404

    def stocks(self) -> tuple[Stock, ...]:
        number = {host: n for n, host in enumerate(self.hosts)}
        return tuple(
            Stock(
                id=number[host],
                uuid=host,
                name=host,
                generation=one.generation,
                parent_id=None if one.parent is None else number[one.parent],
                root_id=number[self.root(host)],
                inventories=one.inventories,
                used={name: self.used(host, name) for name in one.inventories},
                traits=one.traits,
                aggregates=one.aggregates,
            )
            for host, one in self.hosts.items()
        )


def _inventories(chance: random.Random) -> dict[str, Inventory]:
    return {
        name: Inventory(
            total := chance.randint(2, 9),
            reserved=chance.choice([0, 0, 1]),
            min_unit=chance.choice([1, 1, 2]),
            max_unit=chance.choice([total, 100]),
            step_size=chance.choice([1, 1, 2]),
            allocation_ratio=chance.choice([1.0, 1.5]),
        )
        for name in CLASSES
        if chance.random() < 0.85
    }


def _held(chance: random.Random) -> dict[str, dict[str, int]]:
    found = {
        host: {name: chance.choice([1, 2, 2, 4]) for name in CLASSES if chance.random() < 0.6}
        for host in HOSTS
        if chance.random() < 0.35
    }
    return {host: part for host, part in found.items() if part}


class History:
    """One random history."""

    def __init__(self, api: Client, chance: random.Random) -> None:
        self.api = api
        self.chance = chance
        self.model = Model()

    async def begin(self) -> None:
        """Every provider is there and has something."""
        for host in HOSTS:
            parent = self.chance.choice([None, None, *self.model.hosts])
            await self._create(host, parent)
            await self._describe(host, "inventories")

    async def step(self) -> None:
        """One request, compared with what the model says of it."""
        rare = self.chance.random() < 0.2
        kinds = (
            (self._create, self._delete, self._move, self._release)
            if rare
            else (self._describe, self._describe, self._claim, self._claim, self._claim_two)
        )
        await self.chance.choice(kinds)()

    def _generation(self, known: int | None) -> int | None:
        return known if self.chance.random() < 0.85 else self.chance.choice([7, 1, 3])

    async def _create(self, host: str | None = None, parent: str | None = None) -> None:
        if host is None:
            missing = [one for one in HOSTS if one not in self.model.hosts]
            host = self.chance.choice(missing or HOSTS)
            parent = self.chance.choice([None, None, *HOSTS])
        body = {"name": host, "uuid": host, "parent_provider_uuid": parent}
        answer = await self.api.post("/resource_providers", json=body)
        assert answer.status == self.model.create(host, parent), answer.body

    async def _delete(self) -> None:
        host = self.chance.choice(HOSTS)
        answer = await self.api.delete(f"/resource_providers/{host}")
        assert answer.status == self.model.delete(host), answer.body

    async def _move(self) -> None:
        host, parent = self.chance.choice(HOSTS), self.chance.choice([None, *HOSTS])
        body = {"name": host, "parent_provider_uuid": parent}
        answer = await self.api.put(f"/resource_providers/{host}", json=body)
        assert answer.status == self.model.move(host, parent), answer.body

    async def _describe(self, host: str | None = None, what: str | None = None) -> None:
        chance = self.chance
        host = host or chance.choice(HOSTS)
        there = self.model.hosts.get(host)
        generation = self._generation(0 if there is None else there.generation) or 0
        what = what or chance.choice(["inventories", "traits", "aggregates", "aggregates"])
        value: Any = _inventories(chance)
        shown: Any = {name: msgspec.structs.asdict(one) for name, one in value.items()}
        if what != "inventories":
            names = (
                PLACES if what == "aggregates" else ("HW_CPU_X86_AVX", "MISC_SHARES_VIA_AGGREGATE")
            )
            value = frozenset(name for name in names if chance.random() < 0.5)
            shown = sorted(value)
        answer = await self.api.put(
            f"/resource_providers/{host}/{what}",
            json={"resource_provider_generation": generation, what: shown},
        )
        assert answer.status == self.model.write(host, generation, **{what: value}), answer.body

    def _wish(self, consumer: str) -> tuple[int | None, dict[str, dict[str, int]]]:
        there = self.model.holders.get(consumer)
        return self._generation(None if there is None else there.generation), _held(self.chance)

    @staticmethod
    def _body(wish: tuple[int | None, dict[str, dict[str, int]]]) -> dict[str, Any]:
        return {
            "allocations": {host: {"resources": part} for host, part in wish[1].items()},
            "project_id": "p",
            "user_id": "u",
            "consumer_generation": wish[0],
            "consumer_type": "INSTANCE",
        }

    async def _claim(self) -> None:
        consumer = self.chance.choice(CONSUMERS)
        wish = self._wish(consumer)
        answer = await self.api.put(f"/allocations/{consumer}", json=self._body(wish))
        assert answer.status == self.model.claim({consumer: wish}), answer.body

    async def _claim_two(self) -> None:
        wishes = {one: self._wish(one) for one in self.chance.sample(CONSUMERS, 2)}
        body = {consumer: self._body(wish) for consumer, wish in wishes.items()}
        answer = await self.api.post("/allocations", json=body)
        assert answer.status == self.model.claim(wishes), answer.body

    async def _release(self) -> None:
        consumer = self.chance.choice(CONSUMERS)
        answer = await self.api.delete(f"/allocations/{consumer}")
        assert answer.status == self.model.release(consumer), answer.body

    async def compare(self) -> None:
        """What the service remembers is what the model does."""
        listed = (await self.api.get("/resource_providers")).json()["resource_providers"]
        shown = {
            one["uuid"]: (one["generation"], one["parent_provider_uuid"], one["root_provider_uuid"])
            for one in listed
        }
        model = self.model
        assert shown == {h: (o.generation, o.parent, model.root(h)) for h, o in model.hosts.items()}
        for host, one in model.hosts.items():
            usages = (await self.api.get(f"/resource_providers/{host}/usages")).json()["usages"]
            assert usages == {name: model.used(host, name) for name in one.inventories}
        for consumer in CONSUMERS:
            there = model.holders.get(consumer)
            held = (await self.api.get(f"/allocations/{consumer}")).json()
            assert held.get("consumer_generation") == (there.generation if there else None)
            amounts = {host: one["resources"] for host, one in held["allocations"].items()}
            assert amounts == (there.held if there else {})
        await self._compare_candidates()

    async def _compare_candidates(self) -> None:
        answer = await self.api.get("/allocation_candidates?resources=VCPU:1,DISK_GB:2")
        found = {
            frozenset(
                (host, name, amount)
                for host, part in one["allocations"].items()
                for name, amount in part["resources"].items()
            )
            for one in answer.json()["allocation_requests"]
        }
        stocks = self.model.stocks()
        wanted = Wanted((Group(resources={"VCPU": 1, "DISK_GB": 2}),))
        expected = {
            frozenset((stocks[id_].uuid, name, amount) for (id_, name), amount in amounts)
            for keys in Plain(stocks, wanted).anchors().values()
            for amounts, _ in keys
        }
        assert found == expected


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared database to copy."""
    path = tmp_path_factory.mktemp("template") / "placement.db"
    db = Database(f"sqlite:///{path}")
    prepare(db, SystemClock())
    db.close()
    return path


async def _live(path: Path, seed: int) -> None:
    db = Database(f"sqlite:///{path}")
    app = application(db, policy=Enforcer(), clock=SystemClock(), ids=RandomIds(), auth=None)
    history = History(Client(app, token="admin", version="1.39", service="placement"),
                      random.Random(seed))  # fmt: skip
    try:
        await history.begin()
        for number in range(STEPS):
            await history.step()
            if number % 20 == 19:
                await history.compare()
    finally:
        db.close()


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.integers(0, 2**32))
def test_random_histories(template: Path, tmp_path: Path, seed: int) -> None:
    path = tmp_path / f"{uuid.uuid4()}.db"
    shutil.copy(template, path)
    asyncio.run(_live(path, seed))
