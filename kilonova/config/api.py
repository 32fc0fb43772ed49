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
    vendordata_dynamic_targets: Annotated[
        tuple[str, ...], Opt("Services asked for vendor data about each guest, as NAME@URL.")
    ] = ()
    vendordata_dynamic_ssl_certfile: Annotated[
        str, Opt("CA bundle for their certificates; empty for the system's.")
    ] = ""
    vendordata_dynamic_connect_timeout: Annotated[
        int, Opt("Seconds in which such a service takes a connection.", min=3)
    ] = 5
    vendordata_dynamic_read_timeout: Annotated[
        int, Opt("Seconds in which it answers then.", min=0)
    ] = 5
    vendordata_dynamic_failure_fatal: Annotated[
        bool, Opt("Without their answers no vendor data, and no config drive.")
    ] = False
    local_metadata_per_cell: Annotated[
        bool, Opt("The metadata service looks only into the cell of [database].")
    ] = False
    max_limit: Annotated[int, Opt("Most items of a list in one answer.", min=0)] = 1000
    compute_link_prefix: Annotated[str | None, Opt("What links to this API start with.")] = None
    glance_link_prefix: Annotated[str | None, Opt("What links to images start with.")] = None
    enable_instance_password: Annotated[
        bool, Opt("Show the administrator's password in the answer to create and rebuild.")
    ] = True
    use_forwarded_for: Annotated[bool, Opt("Believe X-Forwarded-For of any caller.")] = False
    response_validation: Annotated[
        str,
        Opt(
            "What to do with an answer outside its schema (warn: long ones are not looked at).",
            choices=("error", "warn", "ignore"),
        ),
    ] = "warn"
