"""A guest on a host as a whole: cells and devices found together, and what guests hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from kilonova.domain.fit import numa, pci
from kilonova.domain.fit.numa import Limits
from kilonova.domain.fit.shapes import DeviceRequest, GuestTopology, Held, HostShape, NoFit


class Wanted(msgspec.Struct, frozen=True):
    """What a guest wants of a host's shape; false when every shape will do."""

    topology: GuestTopology | None = None
    devices: tuple[DeviceRequest, ...] = ()

    def __bool__(self) -> bool:
        return self.topology is not None or bool(self.devices)


def limits_of(
    ratios: Mapping[str, float], initial: Mapping[str, float], *, pack: bool = False
) -> Limits:
    """The limits that go with a host's allocation ratios (resource class → ratio)."""

    def ratio(name: str) -> float:
        return ratios.get(name) or initial.get(name) or 1.0

    return Limits(ratio("VCPU"), ratio("MEMORY_MB"), pack)


def fit(
    shape: HostShape,
    wanted: Wanted,
    limits: Limits,
    *,
    providers: Mapping[str, Sequence[str]] | None = None,
) -> Held | NoFit:
    """What the guest would get on the host, or why it gets nothing.

    ``shape`` is the host as its other guests leave it (`with_guests`). ``providers``: see
    `pci.give`. Nothing is given twice, and pinned CPUs, pages of a chosen size and devices are
    never overcommitted.
    """

    def given(cells: frozenset[int] | None) -> dict[str, tuple[str, ...]] | NoFit:
        place = pci.place_of(shape.cells, cells)
        return pci.give(shape.devices, shape.taken, wanted.devices, place, providers=providers)

    if wanted.topology is None:
        got = given(None)
        return got if isinstance(got, NoFit) else Held(None, got)
    if not shape.cells:
        return NoFit("it does not tell its NUMA nodes")
    near = {device.numa_node for device in shape.devices if device.numa_node is not None}
    # Cells with devices are kept for guests that want them.
    liked = near if wanted.devices else {cell.id for cell in shape.cells} - near
    made = numa.place(
        shape.cells,
        wanted.topology,
        limits,
        allowed=lambda cells: not isinstance(given(cells), NoFit),
        liked=liked,
    )
    if isinstance(made, NoFit):
        return made
    got = given(frozenset(cell.host_cell for cell in made.cells if cell.host_cell is not None))
    return got if isinstance(got, NoFit) else Held(made, got)


def with_guests(shape: HostShape, guests: Iterable[Held]) -> HostShape:
    """The shape with what these guests hold counted as used."""
    held = list(guests)
    return msgspec.structs.replace(
        shape,
        cells=numa.use(shape.cells, (one.topology for one in held if one.topology)),
        taken=shape.taken.union(
            address for one in held for many in one.devices.values() for address in many
        ),
    )
