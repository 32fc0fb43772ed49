"""``[pci]``: devices that guests may have whole."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class Pci(msgspec.Struct, frozen=True):
    """``[pci]``. The texts are JSON objects, one for each time the option is given."""

    alias: Annotated[
        tuple[str, ...],
        Opt(
            "Names by which flavors ask for devices.",
            multi=True,
            formerly=(("DEFAULT", "pci_alias"),),
        ),
    ] = ()
    device_spec: Annotated[
        tuple[str, ...],
        Opt(
            "Which devices of this host guests may have.",
            multi=True,
            formerly=(("pci", "passthrough_whitelist"), ("DEFAULT", "pci_passthrough_whitelist")),
        ),
    ] = ()
    report_in_placement: Annotated[bool, Opt("Devices are providers in Placement.")] = False
