"""The choice itself: from candidates and host states to ranked hosts, and why not the others."""

from __future__ import annotations

import itertools
import operator
import random
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from kilonova.domain.request import Cut, HostRef, RequestSpec, Selection
from kilonova.interfaces.placement import AllocationRequest, Way
from kilonova.scheduler.filters.base import Env, HostFilter
from kilonova.scheduler.state import HostState, with_server
from kilonova.scheduler.weighers.base import Weigher, weigh_all

_MOST_REASONS = 100


class Rules(msgspec.Struct, frozen=True):
    """How to choose: filters in their order, weighers, options, chance, alternates wanted."""

    filters: Sequence[HostFilter]
    weighers: Sequence[Weigher]
    env: Env
    chance: random.Random
    alternates: int = 2


def without(rules: Rules, names: Collection[str]) -> Rules:
    """The rules without some of the filters."""
    if not names:
        return rules
    left = [item for item in rules.filters if item.name not in names]
    return msgspec.structs.replace(rules, filters=left)


def select(
    request: RequestSpec,
    hosts: Sequence[HostState],
    ways: Mapping[str, Sequence[AllocationRequest]],
    rules: Rules,
    *,
    weights: bool = False,
) -> Selection:
    """A host and alternates for each server of the request, or the cuts that left none.

    ``ways``: provider uuid of a host → the allocation requests that would claim it. All servers
    or none: each one is counted on its host before the next is placed. ``weights``: those of the
    hosts that would do for the first server are wanted, too.
    """
    present = list(hosts)
    placed: list[tuple[HostRef, ...]] = []
    weighed: dict[str, float] = {}
    for number, _server in enumerate(request.servers or ("",)):
        left, cuts = narrow(request, present, rules)
        if not left:
            return Selection(cuts=cuts)
        ranked = _ranked(left, request, rules)
        if weights and not number:
            weighed = {host.host: weight for host, weight in ranked}
        chosen = _choose(ranked, rules)
        placed.append(_refs(chosen, ranked, ways, rules, number))
        if number + 1 < len(request.servers):
            present = [with_server(h, request.flavor) if h is chosen else h for h in present]
            request = _joined(request, chosen)
    return Selection(servers=tuple(placed), cuts=cuts, weights=weighed)


def narrow(
    request: RequestSpec, hosts: Sequence[HostState], rules: Rules
) -> tuple[list[HostState], tuple[Cut, ...]]:
    """The hosts that will do, and what each step took away."""
    left = list(hosts)
    cuts: list[Cut] = []
    for step, why in _wishes(request):
        left = _cut(step, why, left, cuts)
    if not request.force_host and not request.force_node:
        for item in rules.filters:
            if item.on_rebuild or not request.rebuild:
                left = _filtered(item, request, rules.env, left, cuts)
    return left, tuple(cuts)


def _filtered(
    item: HostFilter, request: RequestSpec, env: Env, hosts: list[HostState], cuts: list[Cut]
) -> list[HostState]:
    if item.concerns is None or item.concerns(request, env):
        check = item.check
        # Most hosts pass; their number makes the plain form worth its lines.
        whys = [check(host, request, env) for host in hosts]
        if any(why is not None for why in whys):
            told = iter(whys)
            return _cut(item.name, lambda _host: next(told), hosts, cuts)
    if hosts:
        cuts.append(Cut(item.name, len(hosts), len(hosts)))
    return hosts


def _wishes(request: RequestSpec) -> list[tuple[str, Callable[[HostState], str | None]]]:
    """What is said about the host itself, before any filter."""
    steps: list[tuple[str, Callable[[HostState], str | None]]] = []
    wanted = request.force_host or request.requested_host
    node = request.force_node or request.requested_node
    if request.cell_id is not None:
        steps.append(("cell", lambda h: None if h.cell_id == request.cell_id else "another cell"))
    if request.ignore_hosts:
        ignored = frozenset(request.ignore_hosts)
        steps.append(
            ("ignored hosts", lambda h: "it is to be left out" if h.host in ignored else None)
        )
    if wanted:
        steps.append(("requested host", lambda h: None if h.host == wanted else "not asked for"))
    if node:
        steps.append(("requested node", lambda h: None if h.node == node else "not asked for"))
    return steps


def _cut(
    step: str,
    why: Callable[[HostState], str | None],
    hosts: list[HostState],
    cuts: list[Cut],
) -> list[HostState]:
    left: list[HostState] = []
    reasons: dict[str, str] = {}
    for host in hosts:
        reason = why(host)
        if reason is None:
            left.append(host)
        elif len(reasons) < _MOST_REASONS:
            reasons[host.host] = reason
    if hosts:
        cuts.append(Cut(step, len(hosts), len(left), reasons))
    return left


def _ranked(
    hosts: Sequence[HostState], request: RequestSpec, rules: Rules
) -> list[tuple[HostState, float]]:
    """Best first; hosts of equal weight in the order they came."""
    weights = weigh_all(hosts, request, rules.weighers, rules.env)
    return sorted(zip(hosts, weights, strict=True), key=_weight, reverse=True)


_weight = operator.itemgetter(1)


def _choose(ranked: Sequence[tuple[HostState, float]], rules: Rules) -> HostState:
    options = rules.env.options
    if options.host_subset_size == 1 and not options.shuffle_best_same_weighed_hosts:
        return ranked[0][0]
    best = list(ranked)
    if options.shuffle_best_same_weighed_hosts:
        top = [pair for pair in best if pair[1] == best[0][1]]
        rules.chance.shuffle(top)
        best[: len(top)] = top
    size = min(options.host_subset_size, len(best))
    return best[rules.chance.randrange(size) if size > 1 else 0][0]


def _refs(
    chosen: HostState,
    ranked: Sequence[tuple[HostState, float]],
    ways: Mapping[str, Sequence[AllocationRequest]],
    rules: Rules,
    number: int,
) -> tuple[HostRef, ...]:
    """The host, then the best others of its cell: a server does not change cells by a retry."""
    others = (h for h, _ in ranked if h is not chosen and h.cell_id == chosen.cell_id)
    refs = []
    for host in [chosen, *itertools.islice(others, rules.alternates)]:
        claims = ways.get(host.provider, ())
        # Equal ways (of a host's NUMA nodes, say) are taken in turn by the servers of a request.
        claim = claims[number % len(claims)] if claims else Way({})
        refs.append(
            HostRef(
                host=host.host,
                node=host.node,
                provider=host.provider,
                cell_id=host.cell_id,
                allocations=claim.allocations,
                mappings=claim.mappings,
                service_version=host.service_version,
            )
        )
    return tuple(refs)


def _joined(request: RequestSpec, chosen: HostState) -> RequestSpec:
    """The request with its group one member larger."""
    group = request.group
    if group is None:
        return request
    counts = dict(group.counts)
    counts[chosen.host] = counts.get(chosen.host, 0) + 1
    return msgspec.structs.replace(request, group=msgspec.structs.replace(group, counts=counts))
