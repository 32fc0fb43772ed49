"""``[ironic]``, ``[manila]``: services that only some clouds have."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class Ironic(msgspec.Struct, frozen=True):
    """``[ironic]``; the login is that of ``[keystone_authtoken]``."""

    endpoint_override: Annotated[
        str | None, Opt("Bare metal endpoint without /v1, past the catalog.")
    ] = None
    region_name: Annotated[str | None, Opt("Region of the endpoint.")] = None


class Manila(msgspec.Struct, frozen=True):
    """``[manila]``; the login is that of ``[keystone_authtoken]``."""

    endpoint_override: Annotated[
        str | None, Opt("Shared file system endpoint ending in /v2, past the catalog.")
    ] = None
    region_name: Annotated[str | None, Opt("Region of the endpoint.")] = None
    share_apply_policy_timeout: Annotated[
        int, Opt("Seconds a host's access to a share may take to become active.", min=1)
    ] = 10
