"""The search for candidates: every way to serve a request from one tree and what shares with it.

A tree is known by its root, the *anchor*. For each anchor every group has its options; their
combinations are walked depth first, a branch ending as soon as a provider is asked for more than
it has, or two isolated groups meet in one.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from kilonova.placement.index import World
from kilonova.placement.queries import Group, Wanted
from kilonova.placement.store.snapshot import Stock


class Candidate(msgspec.Struct, frozen=True):
    """One way: provider id → class → amount, and suffix → the providers that serve the group."""

    allocations: dict[int, dict[str, int]]
    mappings: dict[str, tuple[int, ...]]

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for candidates a caller could not tell apart."""
        return (
            frozenset((i, frozenset(part.items())) for i, part in self.allocations.items()),
            frozenset((suffix, frozenset(ids)) for suffix, ids in self.mappings.items()),
        )


class Bounds(msgspec.Struct, frozen=True):
    """How far to search. ``at_most`` candidates are made (None: all); ``breadth_first`` takes
    one of each tree in turn; ``chance`` shuffles the trees."""

    at_most: int | None = None
    breadth_first: bool = False
    chance: random.Random | None = None


def search(world: World, wanted: Wanted, *, nested: bool, bounds: Bounds) -> list[Candidate]:
    """The candidates, each once, at most ``wanted.limit``.

    ``nested`` False (before 1.29) leaves out those with two providers of one tree.
    """
    anchors = sorted(_anchors(world, wanted))
    if bounds.chance is not None:
        bounds.chance.shuffle(anchors)
    streams = [_stream(world, wanted, anchor) for anchor in anchors]
    made: Iterable[Candidate] = _breadth(streams) if bounds.breadth_first else _depth(streams)
    found: dict[tuple[object, ...], Candidate] = {}
    for candidate in itertools.islice(made, bounds.at_most):
        if nested or _flat(world, candidate):
            found.setdefault(candidate.key, candidate)
            if wanted.limit is not None and len(found) >= wanted.limit:
                break
    return list(found.values())


def summaries(world: World, found: Iterable[Candidate], *, nested: bool) -> list[Stock]:
    """The providers to describe beside candidates: with ``nested`` their whole trees."""
    ids = {id_ for candidate in found for id_ in candidate.allocations}
    if nested:
        roots = {world.stocks[id_].root_id for id_ in ids}
        ids = {id_ for root in roots for id_ in world.trees[root]}
    return [world.stocks[id_] for id_ in sorted(ids)]


def has_room(stock: Stock, name: str, amount: int) -> bool:
    """Whether a provider can give that amount of a class in one portion, now."""
    inventory = stock.inventories.get(name)
    return (
        inventory is not None
        and inventory.admits(amount)
        and stock.used.get(name, 0) + amount <= inventory.capacity
    )


def _depth(streams: Sequence[Callable[[], Iterator[Candidate]]]) -> Iterator[Candidate]:
    for stream in streams:
        yield from stream()


def _breadth(streams: Sequence[Callable[[], Iterator[Candidate]]]) -> Iterator[Candidate]:
    living = [stream() for stream in streams]
    while living:
        still = []
        for stream in living:
            candidate = next(stream, None)
            if candidate is not None:
                still.append(stream)
                yield candidate
        living = still


def _flat(world: World, candidate: Candidate) -> bool:
    roots = {world.stocks[id_].root_id for id_ in candidate.allocations}
    return len(roots) == len(candidate.allocations)


def _anchors(world: World, wanted: Wanted) -> set[int]:
    """The roots worth trying: those that can reach a provider of the rarest class asked for."""
    classes = {name for group in wanted.groups for name in group.resources}
    sets = [world.by_class.get(name, set()) for name in classes]
    rarest = min(sets, key=len, default=set())
    for group in wanted.groups:
        if group.in_tree is not None and len(world.tree_of(group.in_tree)) < len(rarest):
            rarest = world.tree_of(group.in_tree)
    roots: set[int] = set()
    for id_ in rarest:
        roots |= world.anchors(id_)
    return {root for root in roots if wanted.root.accept(world.stocks[root].traits)}


def _stream(world: World, wanted: Wanted, anchor: int) -> Callable[[], Iterator[Candidate]]:
    """The candidates of one tree; most trees are one host and most requests one group."""
    (group, *more) = wanted.groups
    alone = len(world.trees[anchor]) == 1 and not world.sharing(anchor)
    if alone and not more and not group.suffix:
        return lambda: _one_host(world, group, world.stocks[anchor])
    return lambda: _Tree(world, wanted, anchor).candidates()


def _one_host(world: World, group: Group, stock: Stock) -> Iterator[Candidate]:
    if not group.aggregates.accept(stock.aggregates) or not group.traits.accept(stock.traits):
        return
    if group.in_tree is not None and world.ids.get(group.in_tree) != stock.id:
        return
    for name, amount in group.resources.items():
        if not has_room(stock, name, amount):
            return
    yield Candidate({stock.id: dict(group.resources)}, {"": (stock.id,)})


class _Slot(msgspec.Struct, frozen=True):
    """A portion that one provider must give, and the providers that could."""

    group: Group
    resources: dict[str, int]
    options: tuple[int, ...]


class _Tree:
    """The search at one anchor."""

    def __init__(self, world: World, wanted: Wanted, anchor: int) -> None:
        self._world = world
        self._wanted = wanted
        self._own = sorted(world.trees[anchor])
        self._reach = [*self._own, *world.sharing(anchor)]
        self._sum: dict[tuple[int, str], int] = {}
        self._chosen: list[tuple[_Slot, int]] = []

    def candidates(self) -> Iterator[Candidate]:
        """Every candidate at this anchor."""
        slots: list[_Slot] = []
        for group in self._wanted.groups:
            for slot in self._slots(group):
                if not slot.options:
                    return
                slots.append(slot)
        # The group without suffix comes last and the tightest first, so that dead ends show early.
        slots.sort(key=lambda slot: (not slot.group.suffix, len(slot.options)))
        yield from self._walk(slots, 0)

    def _slots(self, group: Group) -> Iterator[_Slot]:
        tree = None if group.in_tree is None else self._world.tree_of(group.in_tree)
        stocks = [self._world.stocks[i] for i in self._reach if tree is None or i in tree]
        if group.suffix:
            if not group.resources:
                own = set(self._own)
                stocks = [stock for stock in stocks if stock.id in own]
            fits = (s.id for s in stocks if self._serves_alone(s, group))
            yield _Slot(group, group.resources, tuple(fits))
            return
        stocks = [s for s in stocks if not (group.traits.forbidden & s.traits)]
        if group.aggregates:
            stocks = [s for s in stocks if self._in_aggregates(s, group)]
        for name, amount in group.resources.items():
            fits = (stock.id for stock in stocks if has_room(stock, name, amount))
            yield _Slot(group, {name: amount}, tuple(fits))

    def _in_aggregates(self, stock: Stock, group: Group) -> bool:
        """An aggregate of a root holds for the whole tree below it."""
        root = self._world.stocks[stock.root_id]
        return group.aggregates.accept(stock.aggregates | root.aggregates)

    @staticmethod
    def _serves_alone(stock: Stock, group: Group) -> bool:
        return (
            group.traits.accept(stock.traits)
            and group.aggregates.accept(stock.aggregates)
            and all(has_room(stock, name, amount) for name, amount in group.resources.items())
        )

    def _walk(self, slots: Sequence[_Slot], depth: int) -> Iterator[Candidate]:
        if depth == len(slots):
            if self._traits_met() and self._subtrees_met():
                yield self._candidate()
            return
        slot = slots[depth]
        for id_ in slot.options:
            if not self._may_take(slot, id_):
                continue
            for name, amount in slot.resources.items():
                self._sum[id_, name] = self._sum.get((id_, name), 0) + amount
            self._chosen.append((slot, id_))
            yield from self._walk(slots, depth + 1)
            self._chosen.pop()
            for name, amount in slot.resources.items():
                self._sum[id_, name] -= amount

    def _may_take(self, slot: _Slot, id_: int) -> bool:
        if self._wanted.isolate and slot.group.suffix:
            for other, taken in self._chosen:
                if taken == id_ and other.group.suffix:
                    return False
        stock = self._world.stocks[id_]
        for name, amount in slot.resources.items():
            before = self._sum.get((id_, name), 0)
            if before:
                inventory = stock.inventories[name]
                together = before + amount
                if together > inventory.max_unit:
                    return False
                if stock.used.get(name, 0) + together > inventory.capacity:
                    return False
        return True

    def _traits_met(self) -> bool:
        """The group without suffix finds its traits among the providers that serve it."""
        for group in self._wanted.groups:
            if group.suffix or not group.traits.required:
                continue
            traits = frozenset[str]().union(
                *(self._world.stocks[i].traits for slot, i in self._chosen if slot.group is group)
            )
            if not group.traits.accept(traits):
                return False
        return True

    def _subtrees_met(self) -> bool:
        for suffixes in self._wanted.same_subtree:
            ids = {id_ for slot, id_ in self._chosen if slot.group.suffix in suffixes}
            if not any(all(self._world.descends(i, top) for i in ids) for top in ids):
                return False
        return True

    def _candidate(self) -> Candidate:
        allocations: dict[int, dict[str, int]] = {}
        mappings: dict[str, tuple[int, ...]] = {}
        for slot, id_ in self._chosen:
            part = allocations.setdefault(id_, {}) if slot.resources else {}
            for name, amount in slot.resources.items():
                part[name] = part.get(name, 0) + amount
            served = mappings.get(slot.group.suffix, ())
            if id_ not in served:
                mappings[slot.group.suffix] = (*served, id_)
        return Candidate(allocations, mappings)
