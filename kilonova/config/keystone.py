"""``[keystone_authtoken]``, ``[glance]``, ``[service_user]``: who we are towards the neighbours."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class KeystoneAuthtoken(msgspec.Struct, frozen=True):
    """``[keystone_authtoken]``: how tokens of callers are checked, and our own user for that."""

    www_authenticate_uri: Annotated[
        str | None, Opt("Identity URL told to callers without a token.")
    ] = None
    auth_url: Annotated[str | None, Opt("Identity URL we ask.")] = None
    auth_type: Annotated[str, Opt("keystoneauth plug-in.")] = "password"
    username: Annotated[str | None, Opt("Our user.")] = None
    password: Annotated[str | None, Opt("Its password.", secret=True)] = None
    project_name: Annotated[str | None, Opt("Its project.")] = None
    user_domain_name: Annotated[str, Opt("Domain of the user.")] = "Default"
    project_domain_name: Annotated[str, Opt("Domain of the project.")] = "Default"
    token_cache_time: Annotated[
        int, Opt("Seconds a checked token is remembered; -1 for not at all.", min=-1)
    ] = 300
    region_name: Annotated[str | None, Opt("Region of the identity service.")] = None
    cafile: Annotated[str | None, Opt("CA bundle for its certificate.")] = None
    insecure: Annotated[bool, Opt("Do not check its certificate.")] = False


class Glance(msgspec.Struct, frozen=True):
    """``[glance]``; the login falls back to that of ``[keystone_authtoken]``."""

    endpoint_override: Annotated[
        str | None, Opt("Image endpoint, past the catalog.", formerly=(("glance", "api_servers"),))
    ] = None
    region_name: Annotated[str | None, Opt("Region of the endpoint.")] = None
    valid_interfaces: Annotated[
        tuple[str, ...], Opt("Kinds of endpoint looked for in the catalog, best first.")
    ] = ("internal", "public")


class Keystone(msgspec.Struct, frozen=True):
    """``[keystone]``: the identity API asked about projects."""

    endpoint_override: Annotated[str | None, Opt("Identity endpoint, past the catalog.")] = None
    region_name: Annotated[str | None, Opt("Region of the endpoint.")] = None


class VendordataDynamicAuth(msgspec.Struct, frozen=True):
    """``[vendordata_dynamic_auth]``: who we are towards services of dynamic vendor data."""

    auth_url: Annotated[str | None, Opt("Identity URL; without it no token is sent.")] = None
    auth_type: Annotated[str, Opt("keystoneauth plug-in.")] = "password"
    username: Annotated[str | None, Opt("Our user.")] = None
    password: Annotated[str | None, Opt("Its password.", secret=True)] = None
    project_name: Annotated[str | None, Opt("Its project.")] = None
    user_domain_name: Annotated[str, Opt("Domain of the user.")] = "Default"
    project_domain_name: Annotated[str, Opt("Domain of the project.")] = "Default"
