"""Cells on cells: what is sound, what is found, and that a no is a no."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilonova.domain.fit.numa import Limits, place, use
from kilonova.domain.fit.shapes import (
    ANY,
    LARGE,
    SMALL,
    GuestCell,
    GuestTopology,
    HostCell,
    NoFit,
    Pages,
)

ONE = Limits()
NONE: frozenset[int] = frozenset()


def cell(number: int = 0, /, *, cpus: int = 2, pcpus: int = 4, memory: int = 1024) -> HostCell:
    first = number * 10
    return HostCell(
        number,
        memory,
        cpus=frozenset(range(first, first + cpus)),
        pcpus=frozenset(range(first + 5, first + 5 + pcpus)),
        pages=(Pages(4, memory * 128), Pages(2048, memory // 4)),
    )


def guest(
    *sizes: tuple[int, int, int], page: int | None = None, emulator: str | None = None
) -> GuestTopology:
    """Cells of (shared vCPUs, dedicated vCPUs, memory)."""
    made, first = [], 0
    for number, (shared, dedicated, memory) in enumerate(sizes):
        middle, end = first + shared, first + shared + dedicated
        made.append(
            GuestCell(
                number, memory, frozenset(range(first, middle)), frozenset(range(middle, end)), page
            )
        )
        first = end
    return GuestTopology(tuple(made), policy="mixed", emulator=emulator)


def hosts_of(found: GuestTopology | NoFit) -> list[int | None]:
    assert isinstance(found, GuestTopology), found
    return [part.host_cell for part in found.cells]


def test_each_cell_gets_a_host_cell_of_its_own() -> None:
    assert hosts_of(place([cell()], guest((2, 0, 64)), ONE)) == [0]
    assert isinstance(place([cell()], guest((1, 0, 64), (1, 0, 64)), ONE), NoFit)
    two = [cell(0), cell(1)]
    assert sorted(map(str, hosts_of(place(two, guest((1, 0, 64), (1, 0, 64)), ONE)))) == ["0", "1"]
    small = [cell(0, cpus=1), cell(1, cpus=2)]
    assert hosts_of(place(small, guest((1, 0, 64), (2, 0, 64)), ONE)) == [0, 1]
    assert hosts_of(place(small, guest((2, 0, 64), (1, 0, 64)), ONE)) == [1, 0]


def test_shared_cpus_are_overcommitted_with_others_only() -> None:
    busy = use([cell()], [placed(guest((2, 0, 64)))])
    assert isinstance(place(busy, guest((1, 0, 64)), ONE), NoFit)
    assert hosts_of(place(busy, guest((2, 0, 64)), Limits(cpu_ratio=2.0))) == [0]
    assert isinstance(place([cell()], guest((3, 0, 64)), Limits(cpu_ratio=9.0)), NoFit)


def test_memory_goes_by_its_ratio() -> None:
    busy = use([cell()], [placed(guest((1, 0, 400))), placed(guest((0, 1, 400)))])
    assert isinstance(place(busy, guest((1, 0, 300)), ONE), NoFit)
    assert isinstance(place(busy, guest((0, 1, 300)), ONE), NoFit)
    assert hosts_of(place(busy, guest((1, 0, 300)), Limits(memory_ratio=1.5))) == [0]


@pytest.mark.parametrize(
    ("page", "memory", "size"),
    [
        (SMALL, 512, 4),
        (SMALL, 516, None),
        (LARGE, 512, 2048),
        (LARGE, 511, None),
        (ANY, 512, 2048),
        (ANY, 511, 4),
        (2048, 64, 2048),
        (1048576, 1024, None),
        (None, 512, None),
    ],
)
def test_pages(page: int | None, memory: int, size: int | None) -> None:
    found = place([cell()], guest((1, 0, memory), page=page), ONE)
    if size is None and page is not None:
        assert isinstance(found, NoFit)
    else:
        assert isinstance(found, GuestTopology)
        assert found.cells[0].page_kb == size


def test_pages_are_not_overcommitted() -> None:
    much = Limits(9.0, 9.0)
    busy = use([cell()], [placed(guest((1, 0, 400), page=2048))])
    assert hosts_of(place(busy, guest((1, 0, 112), page=LARGE), much)) == [0]
    assert isinstance(place(busy, guest((1, 0, 114), page=LARGE), much), NoFit)
    # Memory of large pages is none for those who want none.
    assert isinstance(place([cell()], guest((1, 0, 600)), much), NoFit)


def test_the_emulator_has_a_cpu_of_its_own() -> None:
    found = place([cell()], guest((0, 3, 64), emulator="isolate"), ONE)
    assert isinstance(found, GuestTopology)
    assert len(found.cells[0].reserved) == 1
    assert not found.cells[0].reserved & {cpu for _, cpu in found.cells[0].pins}
    assert isinstance(place([cell()], guest((0, 4, 64), emulator="isolate"), ONE), NoFit)
    assert hosts_of(place([cell()], guest((0, 4, 64), emulator="share"), ONE)) == [0]
    two = [cell(0, pcpus=4), cell(1, pcpus=5)]
    assert hosts_of(place(two, guest((0, 4, 64), (0, 4, 64), emulator="isolate"), ONE)) == [1, 0]


def test_spread_and_pack() -> None:
    cells = list(use([cell(0), cell(1)], [placed(guest((0, 1, 64)), 0)]))
    assert hosts_of(place(cells, guest((0, 1, 64)), ONE)) == [1]
    assert hosts_of(place(cells, guest((0, 1, 64)), Limits(pack=True))) == [0]
    assert hosts_of(place(cells, guest((0, 1, 64)), ONE, liked=[0])) == [0]


def test_a_set_of_cells_may_be_refused() -> None:
    cells = [cell(0), cell(1)]
    assert hosts_of(place(cells, guest((1, 0, 64)), ONE, allowed=lambda c: c == {1})) == [1]
    refused = place(cells, guest((1, 0, 64)), ONE, allowed=lambda c: False)
    assert isinstance(refused, NoFit)
    assert "devices" in refused.reason


def placed(wanted: GuestTopology, *where: int) -> GuestTopology:
    """The topology placed on an empty host."""
    found = place([cell(number) for number in where or (0,)], wanted, ONE)
    assert isinstance(found, GuestTopology)
    return found


# -- properties --------------------------------------------------------------------------------


@st.composite
def cells(draw: st.DrawFn) -> list[HostCell]:
    made = []
    threaded = draw(st.booleans())
    for number in range(draw(st.integers(1, 3))):
        first = number * 10
        ids = range(first, first + draw(st.sampled_from([2, 4])))
        shared = frozenset(ids[: draw(st.integers(0, 2))])
        memory = draw(st.sampled_from([8, 16]))
        large = draw(st.integers(0, 2))
        made.append(
            HostCell(
                number,
                memory,
                cpus=shared,
                pcpus=frozenset(ids) - shared,
                siblings=tuple(frozenset(ids[n : n + 2]) for n in range(0, len(ids), 2))
                if threaded
                else (),
                pages=(
                    Pages(4, (memory - 2 * large) * 256),
                    Pages(2048, large, reserved=draw(st.integers(0, min(1, large)))),
                ),
            )
        )
    return made


@st.composite
def guests(draw: st.DrawFn) -> GuestTopology:
    policy = draw(st.sampled_from(["shared", "dedicated", "mixed"]))
    made, first = [], 0
    page = draw(st.sampled_from([None, SMALL, LARGE, ANY, 2048]))
    for number in range(draw(st.integers(1, 3))):
        count = draw(st.integers(1, 3))
        pinned = {"shared": 0, "dedicated": count}.get(policy, draw(st.integers(0, count)))
        ids = range(first, first + count)
        first += count
        made.append(
            GuestCell(
                number,
                draw(st.sampled_from([2, 3, 4])),
                frozenset(ids[pinned:]),
                frozenset(ids[:pinned]),
                page,
            )
        )
    own = policy != "shared"
    threads = draw(st.sampled_from([None, "prefer", "require", "isolate"])) if own else None
    emulator = draw(st.sampled_from([None, "share", "isolate"])) if own else None
    return GuestTopology(tuple(made), policy, threads, emulator)


LIMITS = st.sampled_from([ONE, Limits(2.0, 1.5), Limits(pack=True)])


@settings(max_examples=60, deadline=None)
@given(cells(), st.lists(guests(), max_size=6), LIMITS)
def test_nothing_is_ever_given_twice(
    host: list[HostCell], wanted: list[GuestTopology], limits: Limits
) -> None:
    state: tuple[HostCell, ...] = tuple(host)
    living: list[GuestTopology] = []
    for one in wanted:
        found = place(state, one, limits)
        if isinstance(found, NoFit):
            assert found.reason
            continue
        living.append(found)
        state = use(state, [found])
        assert use(host, living) == state
    for before, now in zip(host, state, strict=True):
        own = [part for one in living for part in one.cells if part.host_cell == now.id]
        given_away = [
            cpu for part in own for cpu in (*(host for _, host in part.pins), *part.reserved)
        ]
        assert len(given_away) == len(set(given_away))
        assert set(given_away) <= before.pcpus
        assert all({cpu for cpu, _ in part.pins} == part.pcpus for part in own)
        assert now.shared_used <= len(now.cpus) * limits.cpu_ratio
        for pages in now.pages:
            explicit = sum(p.memory_mb * 1024 for p in own if p.page_kb == pages.size_kb)
            assert explicit == pages.used * pages.size_kb
            assert pages.free >= 0
    for one in living:
        places = [part.host_cell for part in one.cells]
        assert len(places) == len(set(places))


@settings(max_examples=100, deadline=None)
@given(cells(), st.lists(guests(), max_size=2), guests(), LIMITS)
def test_a_no_is_a_no(
    host: list[HostCell], others: list[GuestTopology], wanted: GuestTopology, limits: Limits
) -> None:
    state: tuple[HostCell, ...] = tuple(host)
    for one in others:
        found = place(state, one, limits)
        if isinstance(found, GuestTopology):
            state = use(state, [found])
    able = any(
        all(
            possible(there, part, wanted, limits, number)
            for number, (there, part) in enumerate(zip(order, wanted.cells, strict=True))
        )
        for order in itertools.permutations(state, len(wanted.cells))
    )
    assert isinstance(place(state, wanted, limits), GuestTopology) is able


def possible(
    host: HostCell, part: GuestCell, wanted: GuestTopology, limits: Limits, number: int
) -> bool:
    """By trying every set of CPUs and every size of pages."""
    if part.memory_mb > host.memory_mb or len(part.cpus) > len(host.cpus):
        return False
    if part.cpus and host.shared_used + len(part.cpus) > len(host.cpus) * limits.cpu_ratio:
        return False
    need = part.memory_mb * 1024
    full = host.memory_used_mb + part.memory_mb > host.memory_mb * limits.memory_ratio
    if part.page_kb is None:
        small = host.pages[0]
        if full or need > small.total * small.size_kb:
            return False
    else:
        sizes = {
            SMALL: host.pages[:1],
            LARGE: host.pages[1:],
            ANY: host.pages,
            2048: host.pages[1:],
        }[part.page_kb]
        if (full and part.cpus) or not any(
            need % p.size_kb == 0 and need // p.size_kb <= p.total - p.used - p.reserved
            for p in sizes
        ):
            return False
    count = len(part.pcpus) + (wanted.emulator == "isolate" and number == 0)
    free = host.pcpus - host.pinned
    return not count or any(
        threads_fit(host, frozenset(chosen), wanted.threads)
        for chosen in itertools.combinations(sorted(free), count)
    )


def threads_fit(host: HostCell, chosen: frozenset[int], threads: str | None) -> bool:
    threaded = any(len(core) > 1 for core in host.siblings)
    if threads == "isolate":
        return not threaded
    if threads == "require":
        free = host.pcpus - host.pinned
        return threaded and all(
            any(cpu in core and len(core & free) > 1 for core in host.siblings) for cpu in chosen
        )
    return True
