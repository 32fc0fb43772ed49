"""The single demands of a request for candidates: which a tree fails, and how to drop one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from kilonova.domain.whynot import Constraint
from kilonova.placement.queries import Aggregates, Group, Traits, Wanted
from kilonova.placement.store.snapshot import Stock
from kilonova.placement.world import World


class Demand(msgspec.Struct, frozen=True):
    """One constraint; the fields are those of ``domain.whynot.Obstacle``."""

    constraint: Constraint
    group: str = ""
    names: tuple[str, ...] = ()
    asked: int | None = None


Test = Callable[[Stock], bool]
TOGETHER = Demand(Constraint.TOGETHER)


def demands(wanted: Wanted) -> list[Demand]:
    """All of a request, in the order in which trees are held against them."""
    c = Constraint
    found = [Demand(c.ROOT_REQUIRED, names=tuple(sorted(s))) for s in wanted.root.required]
    found += [Demand(c.ROOT_FORBIDDEN, names=(n,)) for n in sorted(wanted.root.forbidden)]
    for group in wanted.groups:
        found += _of_group(group)
    if wanted.isolate:
        found.append(Demand(c.ISOLATE))
    found += [Demand(c.SAME_SUBTREE, names=tuple(sorted(s))) for s in wanted.same_subtree]
    return [*found, TOGETHER]


def _of_group(group: Group) -> Iterator[Demand]:
    c, suffix = Constraint, group.suffix
    for name, amount in group.resources.items():
        yield Demand(c.RESOURCE, suffix, (name,), amount)
    if group.in_tree is not None:
        yield Demand(c.IN_TREE, suffix, (group.in_tree,))
    for some in group.aggregates.member_of:
        yield Demand(c.MEMBER_OF, suffix, tuple(sorted(some)))
    for uuid in sorted(group.aggregates.forbidden):
        yield Demand(c.FORBIDDEN_AGGREGATE, suffix, (uuid,))
    for some in group.traits.required:
        yield Demand(c.REQUIRED_TRAIT, suffix, tuple(sorted(some)))
    for trait in sorted(group.traits.forbidden):
        yield Demand(c.FORBIDDEN_TRAIT, suffix, (trait,))
    for constraint in (c.UNIT, c.CAPACITY):
        for name, amount in group.resources.items():
            yield Demand(constraint, suffix, (name,), amount)


def without(wanted: Wanted, demand: Demand) -> Wanted | None:
    """The request without one demand (a class goes whole); None if nothing is left to ask for."""
    c = Constraint
    match demand.constraint:
        case c.ROOT_REQUIRED | c.ROOT_FORBIDDEN:
            return msgspec.structs.replace(wanted, root=_less_traits(wanted.root, demand))
        case c.ISOLATE:
            return msgspec.structs.replace(wanted, isolate=False)
        case c.SAME_SUBTREE:
            kept = tuple(s for s in wanted.same_subtree if tuple(sorted(s)) != demand.names)
            return msgspec.structs.replace(wanted, same_subtree=kept)
        case c.TOGETHER:
            return None
    groups = [_lessened(g, demand) if g.suffix == demand.group else g for g in wanted.groups]
    asking = tuple(g for g in groups if g.resources or _is_place(g, wanted))
    if not any(g.resources for g in asking):
        return None
    return msgspec.structs.replace(wanted, groups=asking)


def _is_place(group: Group, wanted: Wanted) -> bool:
    return any(group.suffix in suffixes for suffixes in wanted.same_subtree)


def _lessened(group: Group, demand: Demand) -> Group:
    c = Constraint
    match demand.constraint:
        case c.RESOURCE | c.UNIT | c.CAPACITY:
            kept = {n: a for n, a in group.resources.items() if n not in demand.names}
            return msgspec.structs.replace(group, resources=kept)
        case c.IN_TREE:
            return msgspec.structs.replace(group, in_tree=None)
        case c.MEMBER_OF | c.FORBIDDEN_AGGREGATE:
            old = group.aggregates
            member_of = old.member_of
            if demand.constraint is c.MEMBER_OF:
                member_of = tuple(s for s in member_of if tuple(sorted(s)) != demand.names)
            forbidden = old.forbidden
            if demand.constraint is c.FORBIDDEN_AGGREGATE:
                forbidden -= set(demand.names)
            return msgspec.structs.replace(group, aggregates=Aggregates(member_of, forbidden))
        case _:
            return msgspec.structs.replace(group, traits=_less_traits(group.traits, demand))


def _less_traits(traits: Traits, demand: Demand) -> Traits:
    if demand.constraint in (Constraint.REQUIRED_TRAIT, Constraint.ROOT_REQUIRED):
        kept = tuple(s for s in traits.required if tuple(sorted(s)) != demand.names)
        return Traits(kept, traits.forbidden)
    return Traits(traits.required, traits.forbidden - set(demand.names))


def with_amount(wanted: Wanted, demand: Demand, amount: int) -> Wanted:
    """The request with another amount of the demand's class."""
    (name,) = demand.names
    groups = tuple(
        msgspec.structs.replace(g, resources={**g.resources, name: amount})
        if g.suffix == demand.group
        else g
        for g in wanted.groups
    )
    return msgspec.structs.replace(wanted, groups=groups)


def first_failure(world: World, wanted: Wanted, anchor: int) -> Demand | None:
    """The first demand that a tree fails whatever the others are; None if it is none of those."""
    root = world.stocks[anchor]
    for demand in demands(Wanted(groups=(), root=wanted.root))[:-1]:
        required = demand.constraint is Constraint.ROOT_REQUIRED
        if required == root.traits.isdisjoint(demand.names):
            return demand
    own = [world.stocks[id_] for id_ in sorted(world.trees[anchor])]
    reach = [*own, *(world.stocks[id_] for id_ in world.sharing(anchor))]
    for group in wanted.groups:
        if group.suffix:
            failed = _of_one(world, group, reach if group.resources else own)
        else:
            failed = _of_several(world, group, reach)
        if failed is not None:
            return failed
    return None


def _of_one(world: World, group: Group, stocks: list[Stock]) -> Demand | None:
    """What no single provider fulfils on top of the demands before."""
    for demand in _of_group(group):
        test = _test(world, demand, rooted=False)
        stocks = [stock for stock in stocks if test(stock)]
        if not stocks:
            return demand
    return None


def _of_several(world: World, group: Group, stocks: list[Stock]) -> Demand | None:
    """The same where each class may come from another provider."""
    order = list(_of_group(group))
    found: list[Demand] = []
    serving: dict[int, Stock] = {}
    for name in group.resources:
        left = stocks
        for demand in order:
            if demand.constraint is Constraint.REQUIRED_TRAIT:
                continue
            if demand.asked is not None and demand.names != (name,):
                continue
            if demand.constraint in (Constraint.FORBIDDEN_TRAIT, Constraint.UNIT):
                serving.update((stock.id, stock) for stock in left)
            test = _test(world, demand, rooted=True)
            left = [stock for stock in left if test(stock)]
            if not left:
                found.append(demand)
                break
    for demand in order:
        if demand.constraint is Constraint.REQUIRED_TRAIT and all(
            stock.traits.isdisjoint(demand.names) for stock in serving.values()
        ):
            found.append(demand)
    return min(found, key=order.index, default=None)


def _test(world: World, demand: Demand, *, rooted: bool) -> Test:
    """Whether a provider meets a demand; ``rooted``: its root's aggregates count as its own."""
    names = frozenset(demand.names)

    def aggregates(stock: Stock) -> frozenset[str]:
        if rooted and stock.root_id != stock.id:
            return stock.aggregates | world.stocks[stock.root_id].aggregates
        return stock.aggregates

    c = Constraint
    match demand.constraint:
        case c.IN_TREE:
            tree = world.tree_of(demand.names[0])
            return lambda stock: stock.id in tree
        case c.MEMBER_OF:
            return lambda stock: not names.isdisjoint(aggregates(stock))
        case c.FORBIDDEN_AGGREGATE:
            return lambda stock: names.isdisjoint(aggregates(stock))
        case c.REQUIRED_TRAIT:
            return lambda stock: not names.isdisjoint(stock.traits)
        case c.FORBIDDEN_TRAIT:
            return lambda stock: names.isdisjoint(stock.traits)
    return _amount_test(demand)


def _amount_test(demand: Demand) -> Test:
    (name,) = demand.names
    amount = demand.asked or 0
    if demand.constraint is Constraint.RESOURCE:
        return lambda stock: name in stock.inventories
    if demand.constraint is Constraint.UNIT:
        return lambda stock: name in stock.inventories and stock.inventories[name].admits(amount)
    return lambda stock: (
        stock.used.get(name, 0) + amount <= stock.inventories[name].capacity
        if name in stock.inventories
        else False
    )
