"""``[wsgi]``, ``[cors]``, ``[oslo_middleware]``, ``[oslo_policy]``: what every HTTP service has."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class Wsgi(msgspec.Struct, frozen=True):
    """``[wsgi]``: TLS of the services' own ports."""

    ssl_cert_file: Annotated[str | None, Opt("PEM file of the certificate; TLS when set.")] = None
    ssl_key_file: Annotated[str | None, Opt("PEM file of its key.")] = None
    ssl_ca_file: Annotated[
        str | None, Opt("PEM file of the CA that must have signed clients' certificates.")
    ] = None


class Cors(msgspec.Struct, frozen=True):
    """``[cors]``: web pages of which origins may use the service."""

    allowed_origin: Annotated[
        tuple[str, ...], Opt("Origins (scheme://host:port) whose scripts may call; none if empty.")
    ] = ()
    allow_credentials: Annotated[bool, Opt("Let scripts send credentials.")] = True
    expose_headers: Annotated[tuple[str, ...], Opt("Headers scripts may read.")] = (
        "X-Auth-Token",
        "X-OpenStack-Request-Id",
        "X-Subject-Token",
        "X-Service-Token",
        "OpenStack-API-Version",
    )
    max_age: Annotated[int, Opt("Seconds a browser may remember the permission.", min=0)] = 3600
    allow_methods: Annotated[tuple[str, ...], Opt("Methods scripts may use.")] = (
        "GET",
        "PUT",
        "POST",
        "DELETE",
        "PATCH",
    )
    allow_headers: Annotated[tuple[str, ...], Opt("Headers scripts may send.")] = (
        "X-Auth-Token",
        "X-Openstack-Request-Id",
        "X-Identity-Status",
        "X-Roles",
        "X-Service-Catalog",
        "X-User-Id",
        "X-Tenant-Id",
        "OpenStack-API-Version",
        "Idempotency-Key",
    )


class OsloMiddleware(msgspec.Struct, frozen=True):
    """``[oslo_middleware]``."""

    enable_proxy_headers_parsing: Annotated[
        bool, Opt("Believe Forwarded and X-Forwarded-* headers of a proxy in front.")
    ] = False


class OsloPolicy(msgspec.Struct, frozen=True):
    """``[oslo_policy]``: an operator's own rules. Relative paths start at the first INI file's."""

    policy_file: Annotated[str, Opt("File of rules that replace the defaults.")] = "policy.yaml"
    policy_dirs: Annotated[tuple[str, ...], Opt("Directories of further such files.")] = (
        "policy.d",
    )
    enforce_scope: Annotated[bool, Opt("Refuse tokens of a scope a rule does not name.")] = True
    enforce_new_defaults: Annotated[
        bool, Opt("Allow only what the rules say now, not what they said in older releases.")
    ] = True
