"""Where the cells of a guest go on a host, and what a host has left with its guests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from kilonova.domain.fit import cpus
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


class Limits(msgspec.Struct, frozen=True):
    """How far cells may be overcommitted, and whether guests fill cells one by one.

    Pinned CPUs and chosen pages are never overcommitted.
    """

    cpu_ratio: float = 1.0
    memory_ratio: float = 1.0
    pack: bool = False


Allowed = Callable[[frozenset[int]], bool]


def place(
    cells: Sequence[HostCell],
    wanted: GuestTopology,
    limits: Limits,
    *,
    allowed: Allowed | None = None,
    liked: Iterable[int] = (),
) -> GuestTopology | NoFit:
    """The topology with every cell on a host cell of its own, or why there is no way.

    ``allowed`` judges a set of host cells (by what devices need); cells in ``liked`` are taken
    first. Without them the freest come first, the fullest with ``limits.pack``.
    """
    if len(wanted.cells) > len(cells):
        return NoFit(f"the guest has {len(wanted.cells)} NUMA nodes, the host {len(cells)}")
    reasons: list[str] = []
    ways: list[dict[int, GuestCell]] = []
    for number, guest in enumerate(wanted.cells):
        fits: dict[int, GuestCell] = {}
        for host in cells:
            found = _on(host, guest, wanted, limits, reserve=_reserve(wanted, number))
            if isinstance(found, GuestCell):
                fits[host.id] = found
            else:
                reasons.append(f"NUMA node {host.id}: {found.reason}")
        if not fits:
            return NoFit("; ".join(dict.fromkeys(reasons)))
        ways.append(fits)
    order = [cell.id for cell in sorted(cells, key=_preference(limits, frozenset(liked)))]
    refused = False
    for chosen in itertools.combinations(order, len(ways)):
        made = next(_matched(ways, chosen), None)
        if made is None:
            continue
        if allowed is None or allowed(frozenset(chosen)):
            return msgspec.structs.replace(wanted, cells=tuple(made))
        refused = True
    if refused:
        return NoFit("the devices are not at the NUMA nodes that have room")
    return NoFit("; ".join(dict.fromkeys(reasons)) or "its NUMA nodes are full")


def _matched(
    ways: Sequence[Mapping[int, GuestCell]], chosen: Sequence[int]
) -> Iterator[list[GuestCell]]:
    """Ways to give each guest cell one of the host cells chosen."""
    if not ways:
        yield []
        return
    for cell in chosen:
        if cell in ways[0]:
            rest = [other for other in chosen if other != cell]
            for others in _matched(ways[1:], rest):
                yield [ways[0][cell], *others]


def _preference(limits: Limits, liked: frozenset[int]) -> Callable[[HostCell], tuple[float, ...]]:
    turn = 1 if limits.pack else -1

    def key(cell: HostCell) -> tuple[float, ...]:
        free = (
            len(cell.free_pcpus),
            len(cell.cpus) - cell.shared_used,
            cell.memory_mb - cell.memory_used_mb,
        )
        return (cell.id not in liked, *(turn * part for part in free), cell.id)

    return key


def _reserve(wanted: GuestTopology, number: int) -> int:
    """CPUs for the emulator's threads: one, beside those of the first cell."""
    return int(wanted.emulator == "isolate" and number == 0)


# -- one cell on one cell ------------------------------------------------------------------------


def _on(
    host: HostCell, guest: GuestCell, wanted: GuestTopology, limits: Limits, *, reserve: int
) -> GuestCell | NoFit:
    # A guest is not overcommitted against itself.
    if guest.memory_mb > host.memory_mb or len(guest.cpus) > len(host.cpus):
        return NoFit("it is smaller than what the guest wants of it")
    if host.shared_used + len(guest.cpus) > len(host.cpus) * limits.cpu_ratio and guest.cpus:
        return NoFit("its shared CPUs are given away")
    page = _page(host, guest, limits)
    if isinstance(page, NoFit):
        return page
    if not guest.pcpus and not reserve:
        return msgspec.structs.replace(guest, host_cell=host.id, page_kb=page.size_kb or None)
    picked = cpus.pick(host, len(guest.pcpus), wanted.threads, reserve=reserve)
    if picked is None:
        return NoFit(_no_cpus(host, len(guest.pcpus) + reserve, wanted.threads))
    chosen, kept = picked
    return msgspec.structs.replace(
        guest,
        host_cell=host.id,
        page_kb=page.size_kb or None,
        pins=tuple(zip(sorted(guest.pcpus), chosen, strict=True)),
        reserved=kept,
    )


def _no_cpus(host: HostCell, count: int, threads: str | None) -> str:
    free = len(host.free_pcpus)
    if free >= count and threads == "isolate":
        return "its cores have several threads, which the thread policy isolate forbids"
    if free >= count and threads == "require":
        return "it has not enough free sibling threads, which the thread policy require wants"
    return f"{free} dedicated CPUs are free, the guest wants {count}"


def _page(host: HostCell, guest: GuestCell, limits: Limits) -> Pages | NoFit:
    """The pages that hold the guest; size 0 when it asks for none."""
    need = guest.memory_mb * 1024
    sizes = sorted(host.pages, key=lambda pages: pages.size_kb)
    asked = guest.page_kb
    # Pages of a chosen size are counted one by one; the rest goes by the ratio.
    full = host.memory_used_mb + guest.memory_mb > host.memory_mb * limits.memory_ratio
    if full and (asked is None or guest.cpus):
        return NoFit("its memory is given away")
    if asked is None:
        # Memory that is in large pages cannot hold a guest of small ones.
        if sizes and need > sizes[0].total * sizes[0].size_kb:
            return NoFit("its memory is set aside for large pages")
        return Pages(0, 0)
    if asked == SMALL:
        able = sizes[:1]
    elif asked in (LARGE, ANY):
        able = sizes[:0:-1] if asked == LARGE else sizes[::-1]
    else:
        able = [pages for pages in sizes if pages.size_kb == asked]
    if not able:
        return NoFit("it has no memory pages of that size")
    for pages in able:
        if not need % pages.size_kb and need <= pages.free * pages.size_kb:
            return pages
    return NoFit("it has not enough free memory pages of that size")


# -- what is in use ------------------------------------------------------------------------------


def use(cells: Iterable[HostCell], guests: Iterable[GuestTopology]) -> tuple[HostCell, ...]:
    """The host's cells with what these placed guests have of them besides what is counted."""
    state = {cell.id: cell for cell in cells}
    for guest in guests:
        for part in guest.cells:
            if part.host_cell is not None and part.host_cell in state:
                state[part.host_cell] = _with(state[part.host_cell], part)
    return tuple(state.values())


def _with(host: HostCell, guest: GuestCell) -> HostCell:
    def used(pages: Pages) -> Pages:
        if pages.size_kb != guest.page_kb:
            return pages
        count = guest.memory_mb * 1024 // pages.size_kb
        return msgspec.structs.replace(pages, used=pages.used + count)

    return msgspec.structs.replace(
        host,
        shared_used=host.shared_used + len(guest.cpus),
        pinned=host.pinned | guest.host_cpus,
        memory_used_mb=host.memory_used_mb + guest.memory_mb,
        pages=tuple(used(pages) for pages in host.pages),
    )
