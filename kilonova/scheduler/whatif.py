"""Why a request found no host: what would have to be different, found by trying it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

import msgspec

from kilonova.base.clock import Clock
from kilonova.base.errors import Fault
from kilonova.domain.explain import OPERATOR, Change, Why
from kilonova.domain.request import RequestSpec
from kilonova.domain.whynot import Constraint, WhyNot
from kilonova.interfaces.placement import PlacementService
from kilonova.scheduler.attempts import CHOOSING, NOTHING, PLACEMENT, Attempt, Relax
from kilonova.scheduler.probes import Probe, altered, filter_probes, lower, probes
from kilonova.scheduler.state import HostState, HostStates

MOST_TRIES = 80
MOST_SECONDS = 3.0
AT_ONCE = 3
"""Failures explained at the same time; who comes when so many are under way gets no changes."""
_AMOUNTS = (Constraint.RESOURCE, Constraint.UNIT, Constraint.CAPACITY)
_UNITS = {"MEMORY_MB": "MiB of memory", "DISK_GB": "GiB of disk", "VCPU": "VCPU", "PCPU": "PCPU"}


class Attempting(Protocol):
    """The scheduler's way to place a request, as if something were different."""

    async def __call__(self, request: RequestSpec, relax: Relax = NOTHING) -> Attempt:
        """How it went."""


class _Spent(Exception):
    """There is no time for further tries."""


class Explainer:
    """Finds the smallest changes with which a failed request would be placed.

    Each change is tried out by the same code that places servers, so what is proposed works as
    long as nothing else changes meanwhile.
    """

    def __init__(
        self,
        attempt: Attempting,
        placement: PlacementService,
        states: HostStates,
        clock: Clock,
        *,
        default_zone: str = "nova",
    ) -> None:
        self._attempt = attempt
        self._placement = placement
        self._states = states
        self._clock = clock
        self._default_zone = default_zone
        self._under_way = 0

    async def why(self, failed: Attempt) -> Why:
        """The reasons of an attempt that placed nothing."""
        if self._under_way >= AT_ONCE:
            return Why(_last_step(failed), complete=False)
        self._under_way += 1
        try:
            return await self._why(failed)
        finally:
            self._under_way -= 1

    async def _why(self, failed: Attempt) -> Why:
        whynot = None
        if failed.stage == PLACEMENT and failed.query is not None:
            whynot = await self._whynot(failed)
        search = _Search(self._attempt, self._clock, failed, whynot, self._default_zone)
        complete = True
        try:
            await search.run(await self._states.aggregates())
        except (_Spent, Fault):
            complete = False
        found = sorted(search.found, key=lambda pair: pair[0].cost)
        changes = tuple(change for change, _ in found)
        blame = found[0][1] if found else ()
        return Why(_sentence(failed, whynot, blame), blame, whynot, changes, complete)

    async def _whynot(self, failed: Attempt) -> WhyNot | None:
        try:
            return await self._placement.explain(failed.query or ())
        except Fault:
            return None


class _Search:
    """One search; ``found``: changes that help, with the constraints they lift."""

    def __init__(
        self,
        attempt: Attempting,
        clock: Clock,
        failed: Attempt,
        whynot: WhyNot | None,
        default_zone: str,
    ) -> None:
        self._attempt = attempt
        self._clock = clock
        self._failed = failed
        self._whynot = whynot
        self._default_zone = default_zone
        self._left = MOST_TRIES
        self._end = clock.monotonic() + MOST_SECONDS
        self.found: list[tuple[Change, tuple[str, ...]]] = []

    async def run(self, aggregates: list[Any]) -> None:
        """Single changes first; where none helps, the smallest set of them."""
        failed = self._failed
        every = probes(failed, aggregates)
        for some in (every, filter_probes(failed)):
            # A filter as such is blamed where nothing says more exactly what it refuses.
            if not self.found:
                await self._one_of(some)
        if not self.found:
            await self._several(every)

    async def _one_of(self, some: Sequence[Probe]) -> None:
        """Each of them alone."""
        for probe in some:
            if self._hopeless(probe):
                continue
            tried = await self._with([probe])
            if tried.placed:
                for change in await self._exact(probe, tried):
                    self.found.append((change, (probe.token,)))

    def _hopeless(self, probe: Probe) -> bool:
        """Whether Placement said, or it is plain, that this alone does not help."""
        failed, whynot = self._failed, self._whynot
        if failed.stage == CHOOSING or whynot is None:
            return False
        kind, _, name = probe.token.partition(":")
        if kind in ("down", "hint", "extra_spec", "property", "group", "ignored", "count"):
            # An extra spec may stand for a trait or a class of resources.
            return kind not in ("extra_spec", "property")
        if kind in ("resource", "trait"):
            helping = {n for one in whynot.obstacles if one.would_help for n in one.names}
            return name not in helping
        return False

    async def _with(
        self, chosen: Sequence[Probe], *, also: Relax = NOTHING, request: RequestSpec | None = None
    ) -> Attempt:
        """Try with all of them."""
        if self._left <= 0 or self._clock.monotonic() > self._end:
            raise _Spent
        self._left -= 1
        asked = request or self._failed.request
        relax = also
        for probe in chosen:
            asked = probe.request(asked)
            relax = relax.also(probe.relax)
        return await self._attempt(asked, relax)

    async def _exact(self, probe: Probe, tried: Attempt) -> list[Change]:
        """The change as exact as it can be said, tried again where it became another."""
        host = tried.selection.servers[0][0].host
        change = probe.change
        if probe.resource is not None:
            return await self._amounts(probe, tried)
        if change.kind == "zone":
            return [await self._zone(change, tried)]
        if change.kind == "count":
            return [await self._count(change)]
        if change.who == OPERATOR:
            change = msgspec.structs.replace(change, host=host)
        return [change]

    async def _zone(self, change: Change, tried: Attempt) -> Change:
        host = tried.selection.servers[0][0].host
        zone = _zone_of(next(s for s in tried.hosts if s.host == host), self._default_zone)
        asked = change.args["asked"]
        there = msgspec.structs.replace(self._failed.request, availability_zone=zone)
        if zone == asked or not (await self._with([], request=there)).placed:
            return change
        text = f"Availability zone {zone} instead of {asked} has room."
        return msgspec.structs.replace(change, text=text, args={"asked": asked, "zone": zone})

    async def _count(self, change: Change) -> Change:
        """As many servers at once as there is room for."""
        servers = self._failed.request.servers
        low, high = 1, len(servers) - 1
        while low < high:
            middle = (low + high + 1) // 2
            fewer = msgspec.structs.replace(self._failed.request, servers=servers[:middle])
            if (await self._with([], request=fewer)).placed:
                low = middle
            else:
                high = middle - 1
        text = f"There is room for {low} of {len(servers)} servers at once."
        return msgspec.structs.replace(change, text=text, args={**change.args, "to": low})

    async def _amounts(self, probe: Probe, tried: Attempt) -> list[Change]:
        """A smaller flavor, and more room on a host."""
        assert probe.resource is not None
        name = probe.resource[1]
        asked = int(probe.change.args["asked"])
        made = []
        for amount in self._portions(probe, tried):
            request = altered(self._failed.request, probe.resource, amount)
            if request is None:
                break
            exact = await self._with([], request=request)
            if exact.placed:
                made.append(_smaller(name, asked, amount))
                break
        # With less asked of Placement alone, filters see the flavor as it is.
        for amount in self._portions(probe, tried):
            eased = Relax(demand=lower(probe.resource, amount))
            exact = await self._with([], also=eased)
            if exact.placed:
                made.append(_more_room(name, asked, amount, exact.selection.servers[0][0].host))
                break
        return made

    def _portions(self, probe: Probe, tried: Attempt) -> list[int]:
        """Amounts that may do, the largest first."""
        assert probe.resource is not None
        suffix, name = probe.resource
        asked = int(probe.change.args["asked"])
        amounts = {0 if name not in _UNITS else 1}
        for one in self._whynot.obstacles if self._whynot else ():
            same = one.group == suffix and name in one.names and one.constraint in _AMOUNTS
            if same and one.fits is not None:
                amounts.add(one.fits)
        room = tried.free(name)
        amounts.update(room[host] for host in tried.selection.weights if host in room)
        return sorted((n for n in amounts if 0 <= n < asked), reverse=True)[:4]

    async def _several(self, every: Sequence[Probe]) -> None:
        """Lift everything, then put back whatever need not be lifted."""
        chosen = list(every)
        tried = await self._with(chosen)
        if not tried.placed and tried.stage == CHOOSING:
            chosen += filter_probes(tried)
            tried = await self._with(chosen)
        if not tried.placed:
            return
        for probe in sorted(every, key=lambda p: -p.change.cost):
            fewer = [one for one in chosen if one is not probe]
            again = await self._with(fewer)
            if again.placed:
                chosen, tried = fewer, again
        for probe in [one for one in chosen if one not in every]:
            fewer = [one for one in chosen if one is not probe]
            again = await self._with(fewer)
            if again.placed:
                chosen, tried = fewer, again
        parts = await self._parts(chosen, tried)
        if parts is not None:
            self.found.append((_all_of(parts), tuple(p.token for p in chosen)))

    async def _parts(self, chosen: Sequence[Probe], tried: Attempt) -> list[Change] | None:
        """The changes of a set, amounts as large as one host has them; None if that fails."""
        ref = tried.selection.servers[0][0]
        exact: list[Probe] = []
        parts = []
        for probe in chosen:
            change = probe.change
            made = probe
            if probe.resource is not None:
                name, asked = probe.resource[1], int(change.args["asked"])
                room = tried.free(name).get(ref.host, 0)
                amount = max(min(asked - 1, room), 0 if name not in _UNITS else 1)
                made, change = _at(probe, name, asked, amount, ref.host)
            elif change.kind == "zone":
                state = next(s for s in tried.hosts if s.host == ref.host)
                zone = _zone_of(state, self._default_zone)
                args = {**change.args, "zone": zone}
                text = f"Availability zone {zone} instead of {args['asked']}."
                change = msgspec.structs.replace(change, text=text, args=args)
            elif change.who == OPERATOR:
                change = msgspec.structs.replace(change, host=ref.host)
            exact.append(made)
            parts.append(change)
        return parts if (await self._with(exact)).placed else None


def _at(probe: Probe, name: str, asked: int, amount: int, host: str) -> tuple[Probe, Change]:
    """The probe and its change with that amount."""
    assert probe.resource is not None
    key = probe.resource
    if probe.change.who == OPERATOR:
        eased = Relax(demand=lower(key, amount))
        return msgspec.structs.replace(probe, relax=eased), _more_room(name, asked, amount, host)
    made = msgspec.structs.replace(probe, alter=lambda r: altered(r, key, amount) or r)
    return made, _smaller(name, asked, amount)


def _smaller(name: str, asked: int, amount: int) -> Change:
    unit = _UNITS.get(name, name)
    text = f"A flavor with {amount} {unit} would fit: {asked - amount} less than asked for."
    if not amount:
        text = f"A flavor without {unit} would fit."
    args = {"resource": name, "asked": asked, "to": amount, "less": asked - amount}
    cost = 0.5 + (asked - amount) / asked
    return Change("resource", text, cost=round(cost, 3), args=args)


def _more_room(name: str, asked: int, amount: int, host: str) -> Change:
    unit = _UNITS.get(name, name)
    text = f"{asked - amount} more {unit} free on one host would be enough."
    args = {"resource": name, "asked": asked, "more": asked - amount}
    cost = 1.4 + (asked - amount) / asked
    return Change("room", text, OPERATOR, round(cost, 3), args, host)


def _all_of(parts: Sequence[Change]) -> Change:
    if len(parts) == 1:
        return parts[0]
    text = "All of these together: " + " ".join(part.text for part in parts)
    who = OPERATOR if any(part.who == OPERATOR for part in parts) else parts[0].who
    cost = round(sum(part.cost for part in parts), 3)
    return Change("several", text, who, cost, parts=tuple(parts))


def _zone_of(state: HostState, default: str) -> str:
    zones = [a.availability_zone for a in state.aggregates if a.availability_zone]
    return zones[0] if zones else default


def _last_step(failed: Attempt) -> str:
    """Where the last host was lost."""
    cuts = [cut for cut in failed.selection.cuts if cut.left < cut.before or not cut.before]
    if not cuts:
        return "There are not enough hosts available."
    last = cuts[-1]
    if not last.before:
        return f"{last.step}."
    return f"{last.step} refused the last {last.before} of the hosts."


def _sentence(failed: Attempt, whynot: WhyNot | None, blame: Collection[str]) -> str:
    """The reason in one sentence, as far as what stands in the way is known."""
    parts = [_phrase(token, failed, whynot) for token in blame]
    return (
        (" and ".join(parts)[:1].upper() + " and ".join(parts)[1:] + ".")
        if parts
        else (_last_step(failed))
    )


def _phrase(token: str, failed: Attempt, whynot: WhyNot | None) -> str:
    kind, _, name = token.partition(":")
    if kind == "resource":
        for one in whynot.obstacles if whynot else ():
            if name in one.names and one.constraint in _AMOUNTS and one.asked is not None:
                most = "none" if one.most is None else str(one.most)
                unit = _UNITS.get(name, name)
                return f"no suitable host has {one.asked} {unit} free in one place (at most {most})"
        return f"no suitable host has enough {_UNITS.get(name, name)} free"
    required = failed.wanted is None or name in failed.wanted.traits
    return {
        "trait": f"no suitable host has trait {name}"
        if required
        else f"every suitable host has trait {name}, which is not wanted",
        "zone": f"no suitable host is in availability zone {name}",
        "host": "the host asked for does not take it",
        "group": f"the rule {name} of its server group leaves no suitable host",
        "hint": f"the scheduler hint {name} leaves no suitable host",
        "extra_spec": f"the flavor's extra spec {name} leaves no suitable host",
        "property": f"the image's property {name} leaves no suitable host",
        "disabled": "the suitable hosts are disabled",
        "down": "the suitable hosts are down",
        "ignored": "the suitable hosts were tried before or are to be left out",
        "count": "there is no room for so many servers at once",
        "aggregate": "no suitable host is in an aggregate of the project",
        "isolated": "the suitable hosts are set aside for other requests",
        "filter": f"{name} refuses the suitable hosts",
    }.get(kind, f"{token} leaves no suitable host")
