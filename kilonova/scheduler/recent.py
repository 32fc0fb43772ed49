"""What was given out in the last moments and is not yet seen in Placement and in the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from kilonova.base.clock import Clock
from kilonova.domain.group import AFFINITY
from kilonova.domain.guest import FlavorSpec
from kilonova.domain.request import RequestSpec, Selection
from kilonova.interfaces.placement import AllocationRequest
from kilonova.scheduler.state import HostState, with_server


class _Pick(msgspec.Struct, frozen=True):
    host: str
    flavor: FlavorSpec
    group: str
    until: float
    parts: frozenset[str] = frozenset()
    """Providers below the host's that were to give something: devices, NUMA nodes."""


class Recent:
    """Choices by server, each remembered for some seconds; a new choice replaces the old.

    It spreads requests that come at once and keeps apart what must be; a choice that was not
    followed does no harm but for those seconds.
    """

    def __init__(self, clock: Clock, *, seconds: float = 3.0) -> None:
        self._clock = clock
        self._seconds = seconds
        self._picks: dict[str, _Pick] = {}

    def note(self, request: RequestSpec, selection: Selection) -> None:
        """Remember where the servers of a request were sent."""
        until = self._clock.monotonic() + self._seconds
        group = request.group.id if request.group else ""
        for server, refs in zip(request.servers, selection.servers, strict=False):
            self._picks.pop(server, None)
            ref = refs[0]
            parts = frozenset(ref.allocations) - {ref.provider}
            self._picks[server] = _Pick(ref.host, request.flavor, group, until, parts)

    def apply(self, request: RequestSpec, hosts: Iterable[HostState]) -> list[HostState]:
        """The hosts as they will be; choices for the request's own servers do not count."""
        coming: dict[str, list[_Pick]] = {}
        for pick in self._others(request):
            coming.setdefault(pick.host, []).append(pick)
        if not coming:
            return [*hosts]
        made = []
        for host in hosts:
            state = host
            for pick in coming.get(host.host, ()):
                state = with_server(state, pick.flavor)
            made.append(state)
        return made

    def ways(
        self, request: RequestSpec, ways: Mapping[str, Sequence[AllocationRequest]]
    ) -> Mapping[str, Sequence[AllocationRequest]]:
        """The ways to claim each host without those that others were just sent to.

        A device is one server's: who is shown the same one as somebody else loses it. Hosts are
        left out that have nothing else.
        """
        taken = frozenset().union(*(pick.parts for pick in self._others(request)))
        if not taken:
            return ways
        fresh = {
            root: [way for way in some if taken.isdisjoint(way.providers)]
            for root, some in ways.items()
        }
        return {root: some for root, some in fresh.items() if some}

    def group(self, request: RequestSpec) -> RequestSpec:
        """The request with members of its group counted that were sent somewhere just now."""
        group = request.group
        # Where the members of an affinity group are is known with the first of them.
        if group is None or (group.policy == AFFINITY and group.counts):
            return request
        counts = dict(group.counts)
        for pick in self._others(request):
            if pick.group == group.id:
                # The caller's count may hold it already: never less than one, never doubled.
                counts[pick.host] = max(counts.get(pick.host, 0), 1)
        return msgspec.structs.replace(request, group=msgspec.structs.replace(group, counts=counts))

    def _others(self, request: RequestSpec) -> list[_Pick]:
        now = self._clock.monotonic()
        while self._picks:
            server, pick = next(iter(self._picks.items()))
            if pick.until > now:
                break
            del self._picks[server]
        return [
            pick
            for server, pick in self._picks.items()
            if server not in request.servers and pick.until > now
        ]
