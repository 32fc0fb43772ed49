"""All providers in memory, with the sets that a search starts from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from kilonova.placement.rows import SHARING
from kilonova.placement.store.snapshot import Delta, Stock

K = TypeVar("K", str, int)
_NONE: frozenset[int] = frozenset()


class World:
    """Providers by id, and the ids by what they have.

    ``rooms`` is class → shelves of providers by their largest free portion, each shelf an eighth
    wider than the one before; so those that cannot give an amount are passed over without a look,
    but for the few on the amount's own shelf.
    """

    def __init__(self, stocks: Iterable[Stock] = ()) -> None:
        self.stocks: dict[int, Stock] = {}
        self.ids: dict[str, int] = {}
        self.names: dict[str, int] = {}
        self.by_class: dict[str, set[int]] = {}
        self.by_trait: dict[str, set[int]] = {}
        self.by_aggregate: dict[str, set[int]] = {}
        self.rooms: dict[str, list[set[int]]] = {}
        self.trees: dict[int, set[int]] = {}
        self._shared: dict[int, tuple[int, ...]] | None = None
        for stock in stocks:
            self.put(stock)

    def put(self, stock: Stock) -> None:
        """Add a provider or replace what is known of it."""
        old = self.stocks.get(stock.id)
        if old is None or _ties(old) != _ties(stock):
            self._shared = None
        if old is not None and _standing(old) == _standing(stock):
            self._leave_rooms(old)
        else:
            self.drop(stock.id)
            self.ids[stock.uuid] = stock.id
            self.names[stock.name] = stock.id
            for table, keys in self._tables(stock):
                for key in keys:
                    table.setdefault(key, set()).add(stock.id)
            self.trees.setdefault(stock.root_id, set()).add(stock.id)
        self.stocks[stock.id] = stock
        for name in stock.inventories:
            place = _shelf(room(stock, name))
            shelves = self.rooms.setdefault(name, [])
            while len(shelves) <= place:
                shelves.append(set())
            shelves[place].add(stock.id)

    def drop(self, id_: int) -> None:
        """Forget a provider."""
        stock = self.stocks.pop(id_, None)
        if stock is None:
            return
        self._shared = None
        self.ids.pop(stock.uuid, None)
        # Its name may have gone to another one meanwhile.
        if self.names.get(stock.name) == id_:
            del self.names[stock.name]
        for table, keys in self._tables(stock):
            for key in keys:
                _discard(table, key, id_)
        _discard(self.trees, stock.root_id, id_)
        self._leave_rooms(stock)

    def apply(self, delta: Delta) -> None:
        """Bring in what changed."""
        for id_ in delta.gone:
            self.drop(id_)
        for stock in delta.changed:
            self.put(stock)

    def _leave_rooms(self, stock: Stock) -> None:
        for name in stock.inventories:
            shelves = self.rooms[name]
            shelves[_shelf(room(stock, name))].discard(stock.id)
            while shelves and not shelves[-1]:
                shelves.pop()
            if not shelves:
                del self.rooms[name]

    def _tables(self, stock: Stock) -> Iterator[tuple[dict[str, set[int]], Iterable[str]]]:
        yield self.by_class, stock.inventories
        yield self.by_trait, stock.traits
        yield self.by_aggregate, stock.aggregates

    def with_room(self, name: str, amount: int) -> list[set[int]]:
        """Sets of providers, roomiest first, outside of which none can give that amount."""
        shelves = self.rooms.get(name, [])[: _shelf(amount) - 1 : -1]
        return [shelf for shelf in shelves if shelf]

    def sharing(self, root_id: int) -> tuple[int, ...]:
        """Providers outside a tree that share their resources with it by an aggregate."""
        if self._shared is None:
            self._shared = self._find_shared()
        return self._shared.get(root_id, ())

    def anchors(self, id_: int) -> Iterator[int]:
        """The roots of the trees that may use a provider: its own and those it shares with."""
        stock = self.stocks[id_]
        yield stock.root_id
        if SHARING in stock.traits:
            for aggregate in stock.aggregates:
                for other in self.by_aggregate[aggregate]:
                    yield self.stocks[other].root_id

    def reach(self, ids: Iterable[int]) -> int:
        """How many anchors these providers have at most."""
        shared = self.by_trait.get(SHARING, _NONE).intersection(ids)
        return sum(
            len(self.by_aggregate[aggregate])
            for id_ in shared
            for aggregate in self.stocks[id_].aggregates
        )

    def _find_shared(self) -> dict[int, tuple[int, ...]]:
        found: dict[int, list[int]] = {}
        for id_ in sorted(self.by_trait.get(SHARING, ())):
            for root in set(self.anchors(id_)) - {self.stocks[id_].root_id}:
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


def _shelf(amount: int) -> int:
    """Grows with the amount: by one each up to 16, then in eight steps to each double."""
    digits = amount.bit_length() - 4
    return max(0, amount) if digits <= 0 else (digits << 3) + (amount >> digits)


def room(stock: Stock, name: str) -> int:
    """The largest portion of a class that a provider could give now, but for ``step_size``."""
    inventory = stock.inventories[name]
    return min(inventory.max_unit, inventory.capacity - stock.used.get(name, 0))


def has_room(stock: Stock, name: str, amount: int) -> bool:
    """Whether a provider can give that amount of a class in one portion, now."""
    inventory = stock.inventories.get(name)
    return (
        inventory is not None
        and inventory.admits(amount)
        and stock.used.get(name, 0) + amount <= inventory.capacity
    )


def _ties(stock: Stock) -> tuple[object, ...]:
    """What decides who shares with whom."""
    return stock.root_id, stock.aggregates, SHARING in stock.traits


def _standing(stock: Stock) -> tuple[object, ...]:
    """All but what claims change."""
    return (
        stock.uuid,
        stock.name,
        stock.parent_id,
        stock.root_id,
        stock.traits,
        stock.aggregates,
        stock.inventories,
    )


def _discard(table: dict[K, set[int]], key: K, id_: int) -> None:
    members = table.get(key)
    if members is not None:
        members.discard(id_)
        if not members:
            del table[key]
