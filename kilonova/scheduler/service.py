"""The scheduler as a service: one method on the bus, Placement asked, hosts chosen."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence

import msgspec

from kilonova.base.clock import Clock
from kilonova.base.errors import BadRequest
from kilonova.config.filter_scheduler import FilterScheduler, Metrics
from kilonova.config.scheduler import Scheduler as Options
from kilonova.domain.fit import pci
from kilonova.domain.fit.host import fit
from kilonova.domain.fit.shapes import Held
from kilonova.domain.request import Cut, RequestSpec, Selection
from kilonova.interfaces.placement import AllocationRequest, Candidates, PlacementService
from kilonova.messaging.bus import Bus, Subscription
from kilonova.scheduler import request_filters
from kilonova.scheduler.attempts import ASKING, CELLS, CHOOSING, NOTHING, PLACEMENT, Attempt, Relax
from kilonova.scheduler.demand import Demand, demand
from kilonova.scheduler.filters import base as filters
from kilonova.scheduler.recent import Recent
from kilonova.scheduler.request_filters import Facts, Unplaceable
from kilonova.scheduler.select import Rules, select, without
from kilonova.scheduler.state import HostState, HostStates, in_trees, with_usage
from kilonova.scheduler.weighers import base as weighers
from kilonova.scheduler.whatif import Explainer

log = logging.getLogger(__name__)

TOPIC = "scheduler"
METHOD = "select_destinations"


class Scheduler:
    """Chooses hosts. LookupError at the start for a filter or weigher nobody has."""

    def __init__(
        self,
        placement: PlacementService,
        states: HostStates,
        clock: Clock,
        *,
        options: Options | None = None,
        filter_options: FilterScheduler | None = None,
        metrics: Metrics | None = None,
        default_zone: str = "nova",
        default_schedule_zone: str | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._placement = placement
        self._states = states
        self._options = options or Options()
        self._default_zone = default_zone
        self._schedule_zone = default_schedule_zone
        self._recent = Recent(clock)
        env = filters.Env(filter_options or FilterScheduler(), metrics or Metrics())
        self._rules = Rules(
            filters=filters.load(env.options.enabled_filters, env.options.available_filters),
            weighers=weighers.load(env.options.weight_classes),
            env=env,
            chance=chance or random.Random(),
            alternates=self._options.max_attempts - 1,
        )
        self._explainer = Explainer(
            self.attempt, placement, states, clock, default_zone=default_zone
        )

    async def serve(self, bus: Bus) -> Subscription:
        """Answer ``select_destinations`` on the topic ``scheduler``."""
        return await bus.serve(TOPIC, {METHOD: self.select_destinations})

    async def select_destinations(self, request: RequestSpec) -> Selection:
        """Hosts for the servers of a request, or a selection that says why there are none.

        Nothing is claimed. A dry run is not remembered among the choices of the last moments.
        Raises BadRequest for a request that contradicts itself.
        """
        if request.availability_zone is None and self._schedule_zone:
            request = msgspec.structs.replace(request, availability_zone=self._schedule_zone)
        if request.rebuild:
            return await self._rebuild(request)
        attempt = await self._ask(request, NOTHING)
        chosen = attempt.selection
        if attempt.stage == CHOOSING:
            grown = self._recent.group(request)
            ways = self._recent.ways(request, attempt.ways)
            there = attempt.hosts
            if ways is not attempt.ways:
                there = [state for state in there if state.provider in ways]
            hosts = self._recent.apply(request, there)
            chosen = select(grown, hosts, ways, self._rules)
            if not chosen.servers:
                # The last moments are a hint, not a fact: those servers may be gone again.
                attempt = self._choose(attempt, NOTHING)
                chosen = attempt.selection
        if chosen.servers:
            if not request.dry_run:
                self._recent.note(request, chosen)
            return chosen
        why = await self._explainer.why(attempt)
        log.info("no host for %s: %s", ", ".join(request.servers), chosen.reason)
        return msgspec.structs.replace(chosen, why=why)

    async def attempt(self, request: RequestSpec, relax: Relax = NOTHING) -> Attempt:
        """Try to place a request, with ``relax`` as if the world were different."""
        asked = await self._ask(request, relax)
        return self._choose(asked, relax) if asked.stage == CHOOSING else asked

    async def _ask(self, request: RequestSpec, relax: Relax) -> Attempt:
        """Everything but the choice itself."""
        try:
            wanted = await self._demand(request)
        except Unplaceable as error:
            cut = Cut(str(error).rstrip("."), 0, 0)
            return Attempt(request, Selection(cuts=(cut,)), ASKING)
        if relax.demand is not None:
            wanted = relax.demand(wanted)
        query = wanted.query(self._options.max_placement_results)
        tried = Attempt(request, Selection(), PLACEMENT, wanted, query)
        try:
            found = await self._placement.candidates(query)
        except BadRequest as fault:
            return _ended(tried, f"Placement refused to search: {fault.message}")
        if not found.requests:
            return _ended(tried, f"Placement has no host left for {_words(wanted)}")
        hosts, ways = await self._hosts(found)
        if not hosts:
            known = len(found.summaries)
            return _ended(tried, f"None of {known} providers is a host of a cell", stage=CELLS)
        if request.shape.devices and self._rules.env.options.pci_in_placement:
            ways = {
                state.provider: fitting(request, state, ways[state.provider]) for state in hosts
            }
        if relax.host is not None:
            hosts = [relax.host(state) for state in hosts]
        return Attempt(request, Selection(), CHOOSING, wanted, query, found, hosts, ways)

    def _choose(self, asked: Attempt, relax: Relax) -> Attempt:
        rules = without(self._rules, relax.without)
        chosen = select(asked.request, asked.hosts, asked.ways, rules, weights=True)
        return msgspec.structs.replace(asked, selection=chosen)

    async def _rebuild(self, request: RequestSpec) -> Selection:
        """Whether the host a server is on does for its new image; it holds its resources there."""
        host = request.force_host or request.requested_host
        node = request.force_node or request.requested_node
        present = await self._states.hosts(await self._states.providers_of(host, node))
        asked = msgspec.structs.replace(
            request, force_host=None, force_node=None, requested_host=host, requested_node=node
        )
        return select(asked, present, {}, self._rules)

    async def _demand(self, request: RequestSpec) -> Demand:
        facts = Facts(self._options, await self._states.aggregates(), self._default_zone)
        devices = self._rules.env.options.pci_in_placement
        wanted = request_filters.narrow(request, demand(request, devices=devices), facts)
        host = request.force_host or request.requested_host
        node = request.force_node or request.requested_node
        if host is None and node is None:
            return wanted
        uuids = await self._states.providers_of(host, node)
        if not uuids:
            raise Unplaceable(f"There is no compute host {host or node}.")
        if len(uuids) == 1:
            wanted = msgspec.structs.replace(wanted, in_tree=uuids[0])
        if request.force_host or request.force_node:
            # The operator's word goes over a disabled service, as it does over the filters.
            wanted = msgspec.structs.replace(wanted, root_forbidden=())
        return wanted

    async def _hosts(
        self, found: Candidates
    ) -> tuple[list[HostState], Mapping[str, Sequence[AllocationRequest]]]:
        """The states of the candidates' hosts with what is in use now, and the ways to claim."""
        summaries = found.summaries
        there = in_trees(summaries.values())
        states = {state.provider: state for state in await self._states.hosts(there)}
        ways: dict[str, list[AllocationRequest]] = {}
        for way in found.requests:
            for provider in way.providers:
                root = summaries[provider].root
                if root in ways:
                    ways[root].append(way)
                elif root in states:
                    ways[root] = [way]
                else:
                    continue
                break
        return [with_usage(states[root], there[root]) for root in ways], ways


def fitting(
    request: RequestSpec, state: HostState, ways: Sequence[AllocationRequest]
) -> Sequence[AllocationRequest]:
    """The ways to claim a host by which the guest gets devices near its cells; all if none does.

    Placement knows which devices are free, and not which of them are near which CPUs.
    """
    if len(ways) == 1:
        return ways
    shape, devices = state.free_shape, request.shape.devices
    good = [
        way
        for way in ways
        if isinstance(
            fit(shape, request.shape, state.limits, providers=pci.chosen(devices, way.mappings)),
            Held,
        )
    ]
    return good or ways


def _ended(tried: Attempt, why: str, *, stage: str = PLACEMENT) -> Attempt:
    selection = Selection(cuts=(Cut(why, 0, 0),))
    return msgspec.structs.replace(tried, selection=selection, stage=stage)


def _words(wanted: Demand) -> str:
    """What Placement was asked for, for people."""
    parts: list[str] = []
    for group in wanted.groups:
        parts += [f"{name}:{amount}" for name, amount in sorted(group.resources.items())]
    parts += _listed("with", sorted(wanted.traits))
    if wanted.member_of:
        parts.append("in its zone or aggregates")
    return " ".join(parts)


def _listed(word: str, names: Sequence[str]) -> list[str]:
    return [f"{word} {', '.join(names)}"] if names else []
