"""``[neutron]``: the network service, and its word about guests that ask for metadata."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class Neutron(msgspec.Struct, frozen=True):
    """``[neutron]``."""

    service_metadata_proxy: Annotated[
        bool, Opt("Believe X-Instance-ID when its signature is right.")
    ] = False
    metadata_proxy_shared_secret: Annotated[
        str, Opt("Key of X-Instance-ID-Signature (HMAC-SHA256).", secret=True)
    ] = ""
    default_floating_pool: Annotated[str, Opt("External network of old floating IP calls.")] = (
        "nova"
    )
    endpoint_override: Annotated[str | None, Opt("Network endpoint, past the catalog.")] = None
    region_name: Annotated[str | None, Opt("Region of the endpoint.")] = None
    auth_url: Annotated[str | None, Opt("Identity URL.")] = None
    username: Annotated[str | None, Opt("Our user there.")] = None
    password: Annotated[str | None, Opt("Its password.", secret=True)] = None
    project_name: Annotated[str | None, Opt("Its project.")] = None
    user_domain_name: Annotated[str, Opt("Domain of the user.")] = "Default"
    project_domain_name: Annotated[str, Opt("Domain of the project.")] = "Default"
    auth_type: Annotated[str, Opt("keystoneauth plug-in.")] = "password"
