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
    cross_az_attach: Annotated[
        bool, Opt("Let servers use volumes of another availability zone.")
    ] = True
