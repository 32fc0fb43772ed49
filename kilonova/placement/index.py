"""All providers in memory, following the database, for lists and the search for candidates."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

from kilonova.placement.rows import SHARING
from kilonova.placement.store.snapshot import Delta, Mark, Stock

K = TypeVar("K", str, int)


class Source(Protocol):
    """Where changes come from."""

    async def changes(self, since: Mark, known: Mapping[int, int]) -> Delta:
        """What to change to be up to date; see ``store.snapshot.changes``."""


class World:
    """Providers by id with the sets a search starts from."""

    def __init__(self, stocks: Iterable[Stock] = ()) -> None:
        self.stocks: dict[int, Stock] = {}
        self.ids: dict[str, int] = {}
        self.by_class: dict[str, set[int]] = {}
        self.by_trait: dict[str, set[int]] = {}
        self.by_aggregate: dict[str, set[int]] = {}
        self.trees: dict[int, set[int]] = {}
        self._shared: dict[int, tuple[int, ...]] | None = None
        for stock in stocks:
            self.put(stock)

    def put(self, stock: Stock) -> None:
        """Add a provider or replace what is known of it."""
        self.drop(stock.id)
        self.stocks[stock.id] = stock
        self.ids[stock.uuid] = stock.id
        for table, keys in self._tables(stock):
            for key in keys:
                table.setdefault(key, set()).add(stock.id)
        self.trees.setdefault(stock.root_id, set()).add(stock.id)

    def drop(self, id_: int) -> None:
        """Forget a provider."""
        stock = self.stocks.pop(id_, None)
        if stock is None:
            return
        del self.ids[stock.uuid]
        for table, keys in self._tables(stock):
            for key in keys:
                _discard(table, key, id_)
        _discard(self.trees, stock.root_id, id_)

    def apply(self, delta: Delta) -> None:
        """Bring in what changed."""
        for id_ in delta.gone:
            self.drop(id_)
        for stock in delta.changed:
            old = self.stocks.get(stock.id)
            if old is None or _ties(old) != _ties(stock):
                self._shared = None
            self.put(stock)
        if delta.gone:
            self._shared = None

    def _tables(self, stock: Stock) -> Iterator[tuple[dict[str, set[int]], Iterable[str]]]:
        yield self.by_class, stock.inventories
        yield self.by_trait, stock.traits
        yield self.by_aggregate, stock.aggregates

    def sharing(self, root_id: int) -> tuple[int, ...]:
        """Providers outside a tree that share their resources with it by an aggregate."""
        if self._shared is None:
            self._shared = self._find_shared()
        return self._shared.get(root_id, ())

    def anchors(self, id_: int) -> set[int]:
        """The roots of the trees that may use a provider: its own and those it shares with."""
        stock = self.stocks[id_]
        roots = {stock.root_id}
        if SHARING in stock.traits:
            for aggregate in stock.aggregates:
                roots.update(self.stocks[i].root_id for i in self.by_aggregate[aggregate])
        return roots

    def _find_shared(self) -> dict[int, tuple[int, ...]]:
        found: dict[int, list[int]] = {}
        for id_ in sorted(self.by_trait.get(SHARING, ())):
            for root in self.anchors(id_) - {self.stocks[id_].root_id}:
                found.setdefault(root, []).append(id_)
        return {root: tuple(ids) for root, ids in found.items()}

    def descends(self, id_: int, ancestor: int) -> bool:
        """Whether a provider is another one or below it."""
        at: int | None = id_
        for _ in range(len(self.stocks)):
            if at == ancestor:
                return True
            stock = self.stocks.get(at) if at is not None else None
            if stock is None:
                return False
            at = stock.parent_id
        return False

    def tree_of(self, uuid: str) -> set[int]:
        """The ids of the tree a provider is in; nothing for an unknown one."""
        id_ = self.ids.get(uuid)
        return set() if id_ is None else self.trees[self.stocks[id_].root_id]


def _ties(stock: Stock) -> tuple[object, ...]:
    """What decides who shares with whom."""
    return stock.root_id, stock.aggregates, SHARING in stock.traits


def _discard(table: dict[K, set[int]], key: K, id_: int) -> None:
    members = table.get(key)
    if members is not None:
        members.discard(id_)
        if not members:
            del table[key]


class Index:
    """A `World` that is as new as the database each time it is asked for."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._world = World()
        self._mark = Mark()
        self._versions: dict[int, int] = {}
        self._turn = asyncio.Lock()

    async def world(self) -> World:
        """All committed before the call is in it. Use it before the next ``await``."""
        async with self._turn:
            delta = await self._source.changes(self._mark, self._versions)
            self._world.apply(delta)
            for id_ in delta.gone:
                self._versions.pop(id_, None)
            self._versions.update({stock.id: stock.version for stock in delta.changed})
            self._mark = delta.mark
            return self._world
