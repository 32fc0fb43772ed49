"""``[api]``: how the Compute API and the metadata service behave."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class Api(msgspec.Struct, frozen=True):
    """``[api]``."""

    auth_strategy: Annotated[str, Opt("Who checks tokens.", choices=("keystone", "noauth2"))] = (
        "keystone"
    )
    dhcp_domain: Annotated[str, Opt("Domain put after guests' host names.")] = "novalocal"
    metadata_cache_expiration: Annotated[
        int, Opt("Seconds a guest's metadata is remembered; 0 asks each time.", min=0)
    ] = 15
    vendordata_jsonfile_path: Annotated[str | None, Opt("JSON file served as vendor data.")] = None
    vendordata_providers: Annotated[
        tuple[str, ...], Opt("Where vendor data comes from: StaticJSON, DynamicJSON.")
    ] = ("StaticJSON",)
    max_limit: Annotated[int, Opt("Most items of a list in one answer.", min=0)] = 1000
    compute_link_prefix: Annotated[str | None, Opt("What links to this API start with.")] = None
    glance_link_prefix: Annotated[str | None, Opt("What links to images start with.")] = None
    enable_instance_password: Annotated[
        bool, Opt("Show the administrator's password in the answer to create and rebuild.")
    ] = True
    use_forwarded_for: Annotated[bool, Opt("Believe X-Forwarded-For of any caller.")] = False
    response_validation: Annotated[
        str,
        Opt("What to do with an answer outside its schema.", choices=("error", "warn", "ignore")),
    ] = "warn"
