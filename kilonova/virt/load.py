"""Finding the virt driver an operator named."""

from __future__ import annotations

from collections.abc import Callable

from kilonova.base import plugins
from kilonova.base.errors import BadRequest
from kilonova.virt.driver import Host, VirtDriver
from kilonova.virt.fake import MEDIUM, PLENTY, SMALL, FakeDriver, FakeWorld

GROUP = "kilonova.virt"
FAKES = {
    "fake.FakeDriver": PLENTY,
    "fake.FakeDriverWithCaching": PLENTY,
    "fake.MediumFakeDriver": MEDIUM,
    "fake.SmallFakeDriver": SMALL,
}
REMOVED = {
    "hyperv": "Hyper-V",
    "powervm": "PowerVM",
    "powervm_ext": "PowerVM",
    "xenapi": "XenAPI",
}


def maker(name: str | None, *, world: FakeWorld | None = None) -> Callable[[Host], VirtDriver]:
    """What makes a driver for a host, by the value of ``[DEFAULT] compute_driver``.

    Nova's spellings are taken; other names are entry points of the group ``kilonova.virt``
    (callables that take a Host). ``world`` holds the guests of fake drivers. Raises BadRequest
    with what to write instead.
    """
    if not name:
        raise BadRequest("Set [DEFAULT] compute_driver, for example to qemu.QemuDriver.")
    if name in ("qemu", "qemu.QemuDriver"):
        from kilonova.virt.qemu import QemuDriver  # noqa: PLC0415

        return QemuDriver
    if name in ("libvirt", "libvirt.LibvirtDriver"):
        return _libvirt()
    if name == "fake" or name in FAKES:
        if world is None:
            raise BadRequest(f"The driver {name} needs a FakeWorld to live in.")
        there = world
        capacity = FAKES.get(name)

        def fake(host: Host) -> VirtDriver:
            if capacity is not None and capacity is not PLENTY:
                there.offers(capacity, on=host.name)
            return FakeDriver(host, there)

        return fake
    family = name.partition(".")[0]
    if family in REMOVED:
        raise BadRequest(f"The {REMOVED[family]} driver was removed from Nova and is not here.")
    for entry in plugins.points(GROUP):
        if entry.name in (name, family):
            made: Callable[[Host], VirtDriver] = entry.load()
            return made
    raise BadRequest(
        f"There is no virt driver {name}; known are qemu.QemuDriver, "
        f"libvirt.LibvirtDriver, {', '.join(FAKES)}."
    )


def _libvirt() -> Callable[[Host], VirtDriver]:
    try:
        from kilonova.virt.libvirt import LibvirtDriver  # noqa: PLC0415
    except ImportError as error:
        raise BadRequest(
            "The driver libvirt.LibvirtDriver needs libvirt's Python binding: install the extra "
            f"libvirt of this project ({error})."
        ) from None
    return LibvirtDriver
