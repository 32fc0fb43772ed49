"""The search for candidates: every way to serve a request from one tree and what shares with it.

A tree is known by its root, the *anchor*. Anchors come one by one from the rarest thing asked for,
so a limited search looks at little more than it answers. For each anchor every group has its
options; their combinations are walked depth first, a branch ending as soon as a provider is asked
for more than it has, or two isolated groups meet in one.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from kilonova.placement.queries import Group, Traits, Wanted
from kilonova.placement.store.snapshot import Stock
from kilonova.placement.world import World, has_room

STEPS = 20_000
"""Choices tried in vain before a tree is given up: groups that are alike combine factorially."""
GIVEN_UP = 50
"""Trees given up before the search ends."""
SLICE = 500
"""Trees looked at between two pauses."""

T = TypeVar("T")


class Candidate(msgspec.Struct, frozen=True):
    """One way: provider id → class → amount, and suffix → the providers that serve the group."""

    allocations: dict[int, dict[str, int]]
    mappings: dict[str, tuple[int, ...]]

    @property
    def key(self) -> object:
        """Equal for candidates of one request that a caller could not tell apart."""
        if len(self.allocations) == len(self.mappings) == 1:
            return next(iter(self.allocations))
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


Searching = Generator[None, None, list[Candidate]]


def search(world: World, wanted: Wanted, *, nested: bool, bounds: Bounds) -> list[Candidate]:
    """The candidates, each once, at most ``wanted.limit``.

    ``nested`` False (before 1.29) leaves out those with two providers of one tree.
    """
    return finish(searching(world, wanted, nested=nested, bounds=bounds))


def finish(steps: Generator[None, None, T]) -> T:
    """What a generator that pauses returns in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: T = done.value
            return found


def searching(world: World, wanted: Wanted, *, nested: bool, bounds: Bounds) -> Searching:
    """``search``, with a pause after so many trees; ``world`` must not change meanwhile."""
    trees = anchors(world, wanted)
    if bounds.chance is not None:
        trees = _shuffled(list(trees), bounds.chance)
    streams = _streams(world, wanted, trees)
    made = _breadth(streams) if bounds.breadth_first else itertools.chain.from_iterable(streams)
    found: dict[object, Candidate] = {}
    left = -1 if bounds.at_most is None else bounds.at_most
    for candidate in made:
        if candidate is None:
            yield
            continue
        if not left:
            break
        left -= 1
        if nested or flat(world, candidate):
            found.setdefault(candidate.key, candidate)
            if wanted.limit is not None and len(found) >= wanted.limit:
                break
    return list(found.values())


def _streams(
    world: World, wanted: Wanted, trees: Iterable[int]
) -> Iterator[Iterable[Candidate | None]]:
    """The candidates of each tree; now and then instead of a tree a pause (None)."""
    patience = Patience()
    for number, anchor in enumerate(trees, 1):
        yield in_tree(world, wanted, anchor, patience)
        if number % SLICE == 0:
            yield (None,)


def summaries(world: World, found: Iterable[Candidate], *, nested: bool) -> list[Stock]:
    """The providers to describe beside candidates: with ``nested`` their whole trees."""
    ids = {id_ for candidate in found for id_ in candidate.allocations}
    if nested:
        roots = {world.stocks[id_].root_id for id_ in ids}
        ids = {id_ for root in roots for id_ in world.trees[root]}
    return [world.stocks[id_] for id_ in sorted(ids)]


def _shuffled(ids: list[int], chance: random.Random) -> Iterator[int]:
    """One after the other by chance, with no more of it than is asked for."""
    for left in range(len(ids), 0, -1):
        at = int(chance.random() * left)
        ids[at], ids[left - 1] = ids[left - 1], ids[at]
        yield ids[left - 1]


def _breadth(streams: Iterable[Iterable[Candidate | None]]) -> Iterator[Candidate | None]:
    living: list[Iterator[Candidate | None]] = []
    for stream in map(iter, streams):
        for candidate in stream:
            if candidate is not None:
                living.append(stream)
            yield candidate
            break
    while living:
        still = []
        for stream in living:
            candidate = next(stream, None)
            if candidate is not None:
                still.append(stream)
                yield candidate
        living = still


def flat(world: World, candidate: Candidate) -> bool:
    """Whether no two of its providers are of one tree."""
    roots = {world.stocks[id_].root_id for id_ in candidate.allocations}
    return len(roots) == len(candidate.allocations)


class _Start(msgspec.Struct, frozen=True):
    """Providers one of which every candidate uses; ``trees``: or one below a root among them."""

    parts: list[set[int]]
    trees: bool = False


def anchors(world: World, wanted: Wanted) -> Iterator[int]:
    """The roots worth trying, each once: those that can reach the rarest thing asked for."""
    starts = [start for group in wanted.groups for start in _starts(world, group)]
    starts += (_Start(_having(world.by_trait, some)) for some in wanted.root.required)
    rarest = min(starts, key=lambda start: _weight(world, start))
    seen: set[int] = set()
    for id_ in itertools.chain.from_iterable(rarest.parts):
        ids = world.trees.get(id_, (id_,)) if rarest.trees else (id_,)
        for root in itertools.chain.from_iterable(map(world.anchors, ids)):
            if root not in seen:
                seen.add(root)
                if root_will_do(world, wanted.root, root):
                    yield root


def root_will_do(world: World, wanted: Traits, root: int) -> bool:
    """Whether ``root_required`` lets a tree through."""
    return not (wanted.required or wanted.forbidden) or wanted.accept(world.stocks[root].traits)


def _starts(world: World, group: Group) -> Iterator[_Start]:
    for name, amount in group.resources.items():
        yield _Start(world.with_room(name, amount))
    for some in group.traits.required:
        yield _Start(_having(world.by_trait, some))
    if group.in_tree is not None:
        yield _Start([world.tree_of(group.in_tree)])
    # Without a suffix an aggregate of the root counts as well, for every provider of its tree.
    for some in group.aggregates.member_of:
        yield _Start(_having(world.by_aggregate, some), trees=not group.suffix)


def _having(table: dict[str, set[int]], names: Iterable[str]) -> list[set[int]]:
    return [table[name] for name in sorted(names) if name in table]


def _weight(world: World, start: _Start) -> int:
    return sum(len(part) + world.reach(part) for part in start.parts)


def in_tree(world: World, wanted: Wanted, anchor: int, patience: Patience) -> Iterable[Candidate]:
    """The candidates of one tree; most trees are one host and most requests one group."""
    groups = wanted.groups
    if (
        len(groups) == 1
        and not groups[0].suffix
        and len(world.trees[anchor]) == 1
        and not world.sharing(anchor)
    ):
        return _one_host(world, groups[0], world.stocks[anchor])
    return Tree(world, wanted, anchor, patience).candidates() if patience.trees > 0 else ()


def _one_host(world: World, group: Group, stock: Stock) -> tuple[Candidate, ...]:
    for name, amount in group.resources.items():
        if not has_room(stock, name, amount):
            return ()
    if not group.aggregates.accept(stock.aggregates) or not group.traits.accept(stock.traits):
        return ()
    if group.in_tree is not None and world.ids.get(group.in_tree) != stock.id:
        return ()
    return (Candidate({stock.id: group.resources}, {"": (stock.id,)}),)


class Patience:
    """How many trees may still be given up."""

    def __init__(self, trees: int = GIVEN_UP, steps: int = STEPS) -> None:
        self.trees = trees
        self.steps = steps


class _Slot(msgspec.Struct, frozen=True):
    """A portion that one provider must give, and the providers that could."""

    group: Group
    resources: dict[str, int]
    options: tuple[int, ...]


class Tree:
    """The search at one anchor."""

    def __init__(self, world: World, wanted: Wanted, anchor: int, patience: Patience) -> None:
        self._world = world
        self._wanted = wanted
        self._own = sorted(world.trees[anchor])
        self._reach = [*self._own, *world.sharing(anchor)]
        self._sum: dict[tuple[int, str], int] = {}
        self._chosen: list[tuple[_Slot, int]] = []
        self._patience = patience
        self._left = patience.steps

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
            if self._traits_met() and self._subtrees_met(()):
                self._left = self._patience.steps
                yield self._candidate()
            return
        slot = slots[depth]
        for id_ in slot.options:
            if self._left <= 0:
                return
            self._left -= 1
            if not self._left:
                self._patience.trees -= 1
            if not self._may_take(slot, id_):
                continue
            for name, amount in slot.resources.items():
                self._sum[id_, name] = self._sum.get((id_, name), 0) + amount
            self._chosen.append((slot, id_))
            if self._subtrees_met(slots[depth + 1 :]):
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

    def _subtrees_met(self, more: Sequence[_Slot]) -> bool:
        """Whether one provider of each subtree is above the others, or one of ``more`` may be."""
        for suffixes in self._wanted.same_subtree:
            ids = {id_ for slot, id_ in self._chosen if slot.group.suffix in suffixes}
            tops = set(ids)
            for slot in more:
                if slot.group.suffix in suffixes:
                    tops.update(slot.options)
            if ids and not any(all(self._world.descends(i, top) for i in ids) for top in tops):
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
