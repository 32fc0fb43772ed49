"""The choice among hosts, and what is said of those left out."""

from __future__ import annotations

import random
from typing import Any

from kilonova.base.clock import VirtualClock
from kilonova.config.filter_scheduler import FilterScheduler
from kilonova.domain.request import RequestSpec, Selection, ServerGroup
from kilonova.interfaces.placement import Way
from kilonova.scheduler.filters import base as filters
from kilonova.scheduler.recent import Recent
from kilonova.scheduler.select import Rules, select
from kilonova.scheduler.state import HostState
from kilonova.scheduler.weighers import base as weighers
from tests.support.scheduling import host, request


def choose(hosts: list[HostState], asked: RequestSpec, **options: Any) -> Selection:
    env = filters.Env(FilterScheduler(**options))
    rules = Rules(
        filters.load(env.options.enabled_filters),
        weighers.load(env.options.weight_classes),
        env,
        random.Random(1),
        alternates=2,
    )
    ways = {h.provider: [Way({h.provider: {"VCPU": 2}})] for h in hosts}
    return select(asked, hosts, ways, rules)


def names(selection: Selection) -> list[list[str]]:
    return [[ref.host for ref in refs] for refs in selection.servers]


def test_best_host_first_then_alternates_of_its_cell() -> None:
    hosts = [
        host("h1", memory_mb_used=2000),
        host("h2"),
        host("far", cell_id="c2", memory_mb_used=100),
        host("h3", memory_mb_used=1000),
    ]
    found = choose(hosts, request())
    assert names(found) == [["h2", "h3", "h1"]]
    ref = found.servers[0][0]
    assert (ref.provider, ref.allocations) == ("uuid-h2", {"uuid-h2": {"VCPU": 2}})
    assert found.reason == ""


def test_several_servers_spread_and_keep_group_rules() -> None:
    hosts = [host("h1"), host("h2")]
    found = choose(hosts, request(servers=("a", "b")))
    assert {refs[0].host for refs in found.servers} == {"h1", "h2"}
    apart = ServerGroup("g", "anti-affinity")
    assert len(choose(hosts, request(servers=("a", "b"), group=apart)).servers) == 2
    third = choose(hosts, request(servers=("a", "b", "c"), group=apart))
    assert third.servers == ()
    assert "ServerGroupAntiAffinityFilter left 0 of 2" in third.reason
    together = ServerGroup("g", "affinity")
    same = choose(hosts, request(servers=("a", "b"), group=together))
    assert len({refs[0].host for refs in same.servers}) == 1


def test_reasons_name_every_step() -> None:
    hosts = [host("h1", up=False), host("h2", disabled=True, disabled_reason="fan"), host("h3")]
    found = choose(hosts, request(ignore_hosts=("h3",)))
    assert [(c.step, c.before, c.left) for c in found.cuts] == [
        ("ignored hosts", 3, 2),
        ("ComputeFilter", 2, 0),
    ]
    assert found.reason.startswith("No valid host was found. ignored hosts left 2 of 3")
    assert "h2: its service is disabled (fan)" in found.reason


def test_forced_hosts_pass_the_filters_by_and_requested_ones_do_not() -> None:
    hosts = [host("h1", up=False), host("h2")]
    assert names(choose(hosts, request(force_host="h1"))) == [["h1"]]
    assert names(choose(hosts, request(requested_host="h1"))) == []
    assert names(choose(hosts, request(requested_host="h2"))) == [["h2"]]
    assert names(choose(hosts, request(force_node="h2"))) == [["h2"]]
    assert names(choose(hosts, request(cell_id="c9"))) == []


def test_a_rebuild_looks_at_the_image_only() -> None:
    down = host("h1", up=False)
    assert names(choose([down], request(rebuild=True))) == [["h1"]]
    wrong = request(rebuild=True, properties={"hw_architecture": "mips"})
    assert names(choose([down], wrong)) == []


def test_chance_among_the_best() -> None:
    hosts = [host(f"h{n}", memory_mb_used=n) for n in range(6)]
    picks = set()
    for seed in range(30):
        env = filters.Env(FilterScheduler(host_subset_size=3))
        rules = Rules([], weighers.load(["RAMWeigher"]), env, random.Random(seed))
        picks.add(select(request(), hosts, {}, rules).servers[0][0].host)
    assert picks == {"h0", "h1", "h2"}
    env = filters.Env(FilterScheduler(shuffle_best_same_weighed_hosts=True))
    equal = [host("a"), host("b"), host("c", memory_mb_used=9)]
    seen = {
        select(
            request(), equal, {}, Rules([], weighers.load(["RAMWeigher"]), env, random.Random(s))
        )
        .servers[0][0]
        .host
        for s in range(30)
    }
    assert seen == {"a", "b"}


async def test_choices_of_the_last_moments_count_for_others() -> None:
    clock = VirtualClock()
    recent = Recent(clock, seconds=3)
    group = ServerGroup("g", "anti-affinity")
    first = request(servers=("s1",), group=group)
    recent.note(first, choose([host("h1"), host("h2")], first))
    second = request(servers=("s2",), group=group)
    assert recent.group(second).group == ServerGroup("g", "anti-affinity", {}, {"h1": 1})
    assert recent.group(first) == first
    (seen,) = recent.apply(second, [host("h1")])
    assert (seen.memory_mb_used, seen.num_instances) == (512, 1)
    assert recent.apply(first, [host("h1")]) == [host("h1")]
    await clock.advance(4)
    assert recent.apply(second, [host("h1")]) == [host("h1")]
    assert recent.group(second) == second
