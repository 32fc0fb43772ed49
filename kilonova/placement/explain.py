"""Why trees are not among the candidates: which constraint is in the way, and what would help.

It asks the search itself whether a tree would do with one constraint dropped or another amount,
so what it says would help does help.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import msgspec

from kilonova.domain.whynot import Constraint, Obstacle, WhyNot
from kilonova.placement.candidates import Patience, finish, flat, in_tree, root_will_do
from kilonova.placement.judge import (
    TOGETHER,
    Demand,
    demands,
    first_failure,
    with_amount,
    without,
)
from kilonova.placement.queries import Wanted
from kilonova.placement.store.snapshot import Stock
from kilonova.placement.world import World, room

ROOTS = 20
"""Trees named per obstacle at most."""
TRIED = 5_000
"""Trees of several providers that are tried again for each constraint at most."""
SLICE = 200
"""Trees looked at between two pauses."""
_STEPS = 2_000


class Question(msgspec.Struct, frozen=True):
    """What is asked, of which world; ``nested`` as in ``candidates.search``."""

    world: World
    wanted: Wanted
    nested: bool = True

    def serves(self, wanted: Wanted, anchor: int) -> bool:
        """Whether a tree has a candidate for that request."""
        if not root_will_do(self.world, wanted.root, anchor):
            return False
        found = in_tree(self.world, wanted, anchor, Patience(steps=_STEPS))
        return any(self.nested or flat(self.world, one) for one in found)

    def blame(self, anchor: int) -> Demand:
        """What to name first for a tree that has no candidate."""
        failed = first_failure(self.world, self.wanted, anchor)
        if failed is not None:
            return failed
        for demand in demands(self.wanted):
            if demand.constraint in (Constraint.ISOLATE, Constraint.SAME_SUBTREE):
                relaxed = without(self.wanted, demand)
                if relaxed is not None and self.serves(relaxed, anchor):
                    return demand
        return TOGETHER


Steps = Generator[None, None, WhyNot]


def explain(world: World, wanted: Wanted, *, nested: bool = True) -> WhyNot:
    """What became of every tree; ``nested`` as in ``candidates.search``."""
    return finish(explaining(world, wanted, nested=nested))


def explaining(world: World, wanted: Wanted, *, nested: bool = True) -> Steps:
    """The same in short steps, between which others may run while ``world`` stays as it is."""
    question = Question(world, wanted, nested)
    removed: dict[Demand, list[int]] = {}
    left = 0
    for number, anchor in enumerate(sorted(world.trees)):
        if number % SLICE == 0:
            yield
        if question.serves(wanted, anchor):
            left += 1
        else:
            removed.setdefault(question.blame(anchor), []).append(anchor)
    # In a tree of one provider a demand stands alone in the way only if it was named above; in
    # others it may have hidden behind one before it.
    several = [
        anchor
        for anchors in removed.values()
        for anchor in anchors
        if len(world.trees[anchor]) > 1 or world.sharing(anchor)
    ][:TRIED]
    obstacles: list[Obstacle] = []
    for demand in demands(wanted):
        mine = removed.get(demand, [])
        tried = list(dict.fromkeys([*mine, *several]))
        fits, roots = yield from _relaxed(question, demand, tried)
        if mine or roots:
            obstacles.append(_obstacle(world, demand, len(mine), fits, roots))
    return WhyNot(len(world.trees), left, tuple(obstacles))


def _obstacle(
    world: World, demand: Demand, removed: int, fits: int | None, roots: list[int]
) -> Obstacle:
    return Obstacle(
        constraint=demand.constraint,
        group=demand.group,
        names=demand.names,
        asked=demand.asked,
        most=_most(world, demand),
        fits=fits,
        removed=removed,
        roots=tuple(world.stocks[root].uuid for root in roots),
    )


def _most(world: World, demand: Demand) -> int | None:
    (name, *_) = demand.names or ("",)
    if demand.constraint is Constraint.UNIT:
        ids = world.by_class.get(name, set())
        return max((world.stocks[i].inventories[name].max_unit for i in ids), default=0)
    if demand.constraint is Constraint.CAPACITY:
        shelves = world.rooms.get(name) or [set()]
        return max((max(0, room(world.stocks[i], name)) for i in shelves[-1]), default=0)
    return 0 if demand.constraint is Constraint.RESOURCE else None


Relaxed = Generator[None, None, tuple[int | None, list[int]]]


def _relaxed(question: Question, demand: Demand, anchors: list[int]) -> Relaxed:
    """The nearest amount (of amounts) and the trees that would serve without the demand."""
    if demand.constraint in (Constraint.UNIT, Constraint.CAPACITY):
        return (yield from _other_amount(question, demand, anchors))
    relaxed = without(question.wanted, demand)
    roots: list[int] = []
    for number, anchor in enumerate(anchors if relaxed is not None else ()):
        if number % SLICE == 0:
            yield
        if relaxed is not None and question.serves(relaxed, anchor):
            roots.append(anchor)
            if len(roots) == ROOTS:
                break
    return None, roots


def _other_amount(question: Question, demand: Demand, anchors: list[int]) -> Relaxed:
    asked = demand.asked or 0
    best: int | None = None
    roots: list[int] = []
    for number, anchor in enumerate(anchors):
        if number % SLICE == 0:
            yield
        for amount in _amounts(question, demand, anchor):
            nearer = best is None or abs(amount - asked) < abs(best - asked)
            if not nearer and len(roots) == ROOTS:
                break
            if question.serves(with_amount(question.wanted, demand, amount), anchor):
                if nearer:
                    best = amount
                if len(roots) < ROOTS:
                    roots.append(anchor)
                break
    return best, roots


def _amounts(question: Question, demand: Demand, anchor: int) -> list[int]:
    """Amounts other than asked that some provider of the tree could give, the nearest first."""
    (name,) = demand.names
    asked = demand.asked or 0
    world = question.world
    beside = sum(
        group.resources.get(name, 0)
        for group in question.wanted.groups
        if group.suffix != demand.group
    )
    found: set[int] = set()
    for id_ in (*world.trees[anchor], *world.sharing(anchor)):
        found.update(_portions(world.stocks[id_], name, asked, beside))
    return sorted(found - {asked}, key=lambda amount: (abs(amount - asked), amount))


def _portions(stock: Stock, name: str, asked: int, beside: int) -> Iterator[int]:
    inventory = stock.inventories.get(name)
    if inventory is None:
        return
    step, top = inventory.step_size, room(stock, name)
    least = -(-max(inventory.min_unit, 1) // step) * step
    for free in (top, top - beside):
        down = min(free, asked) // step * step
        up = max(-(-asked // step) * step, least)
        for amount in (down, up):
            if least <= amount <= free:
                yield amount
