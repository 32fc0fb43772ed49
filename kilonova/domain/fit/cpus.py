"""Sets of CPUs as text, and which threads of a cell a guest's own CPUs get."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kilonova.domain.fit.shapes import HostCell

_RANGE = re.compile(r"(\^?)(\d{1,5})(?:-(\d{1,5}))?")


def parse(text: str, *, of: Iterable[int] = ()) -> frozenset[int]:
    """The CPUs of ``0-3,^2``; exclusions alone (``^0-1``) mean all others ``of`` a set.

    ValueError says what is no such list.
    """
    wanted: set[int] = set()
    without: set[int] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        found = _RANGE.fullmatch(part)
        if found is None:
            raise ValueError(f"{part!r} in {text!r} is no CPU and no range of CPUs")
        first, last = int(found[2]), int(found[3] or found[2])
        if last < first:
            raise ValueError(f"{part!r} in {text!r} ends before it begins")
        (without if found[1] else wanted).update(range(first, last + 1))
    if without and not wanted:
        wanted = set(of)
    return frozenset(wanted - without)


def pick(
    cell: HostCell, count: int, threads: str | None, *, reserve: int = 0
) -> tuple[list[int], frozenset[int]] | None:
    """``count`` free CPUs of a cell and ``reserve`` more for the emulator, or None.

    ``require``: only cores on which the guest's vCPUs can be siblings. ``isolate``: never on a
    host whose cores have several threads. Otherwise cores are filled one by one, so that siblings
    belong to the same guest where they can.
    """
    cores = _cores(cell)
    most = max((len(core) for core in cell.siblings), default=1)
    if threads == "isolate" and most > 1:
        return None
    if threads == "require":
        cores = [core for core in cores if len(core) > 1] if most > 1 else []
    if sum(len(core) for core in cores) < count + reserve:
        return None
    order = _best(cores, count)
    return order[:count], frozenset(order[count : count + reserve])


def _cores(cell: HostCell) -> list[list[int]]:
    """The free threads of each core; CPUs of which no siblings are told are cores themselves."""
    free = cell.free_pcpus
    cores = [sorted(core & free) for core in cell.siblings if core & free]
    known = {cpu for core in cores for cpu in core}
    return cores + [[cpu] for cpu in sorted(free - known)]


def _best(cores: Sequence[list[int]], count: int) -> list[int]:
    """Free threads core by core: first the cores that just hold what is left to place."""
    left = sorted(cores, key=lambda core: (-len(core), core))
    order: list[int] = []
    while left:
        missing = count - len(order)
        fitting = [core for core in left if len(core) <= missing] if missing > 0 else left
        core = fitting[0] if fitting else min(left, key=lambda core: (len(core), core))
        left.remove(core)
        order += core
    return order
