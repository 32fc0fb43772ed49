"""Network cards as the guest sees them."""

from __future__ import annotations

import msgspec

from kilonova.domain.guest import GuestSpec, Nic
from kilonova.virt.devices import properties as props

MODELS = frozenset({"virtio", "e1000", "e1000e", "rtl8139", "ne2k_pci", "pcnet", "vmxnet3"})
TAP_NAME = 14


class NicDevice(msgspec.Struct, frozen=True):
    """A card with its model and the name of the host's end (``tap`` + start of the port id)."""

    nic: Nic
    model: str
    tap: str
    index: int

    @property
    def id(self) -> str:
        """A name for the hypervisor, unique in the guest."""
        return f"net{self.index}"


def tap_name(nic: Nic) -> str:
    """The host's end of a card: as the port was bound, else made from the port's id."""
    return nic.device or f"tap{nic.port_id}"[:TAP_NAME]


def nics(guest: GuestSpec) -> tuple[NicDevice, ...]:
    """The guest's cards in order; ``hw_vif_model`` goes before what the port says."""
    properties = props.of(guest)
    made = []
    for index, nic in enumerate(guest.nics):
        model = props.choice(properties, "hw_vif_model", MODELS, nic.model or "virtio")
        made.append(NicDevice(nic, model, tap_name(nic), index))
    return tuple(made)
