"""``[cinder]``: the block storage service."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class Cinder(msgspec.Struct, frozen=True):
    """``[cinder]``; the login is that of ``[keystone_authtoken]``."""

    endpoint_override: Annotated[
        str | None, Opt("Block storage endpoint ending in /v3, past the catalog.")
    ] = None
    os_region_name: Annotated[str | None, Opt("Region of the endpoint.")] = None
    os_brick: Annotated[
        bool,
        Opt(
            "Compute hosts open the volumes that QEMU cannot open by itself through os-brick; "
            "needs kilonova[openstack], and root or sudo."
        ),
    ] = False
    cross_az_attach: Annotated[
        bool, Opt("Let servers use volumes of another availability zone.")
    ] = True
