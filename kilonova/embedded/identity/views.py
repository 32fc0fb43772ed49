"""How the identity service shows things: the bodies Keystone's clients read."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

import msgspec

from kilonova.embedded.identity.records import (
    ApplicationCredential,
    Credential,
    Endpoint,
    Group,
    Limit,
    Project,
    Region,
    RegisteredLimit,
    Role,
    Service,
    User,
)
from kilonova.embedded.identity.store.standing import Standing

Link = Callable[..., str]
View = dict[str, Any]

encode = msgspec.json.Encoder().encode

_SUBSTITUTE = re.compile(r"[$%]\((\w+)\)s")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def time(number: int) -> str:
    """``2026-01-31T12:00:00.000000Z`` from microseconds since 1970."""
    when = _EPOCH + dt.timedelta(microseconds=number)
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def token(found: Standing, *, catalog: bool = True) -> View:
    """The body of a token."""
    claims = found.claims
    domain = found.user_domain
    body: View = {
        "methods": list(claims.methods),
        "user": {
            "domain": {"id": domain.id, "name": domain.name},
            "id": found.user.id,
            "name": found.user.name,
            "password_expires_at": None,
        },
        "audit_ids": list(claims.audit_ids),
        "expires_at": time(claims.expires_at),
        "issued_at": time(claims.issued_at),
    }
    if found.project is not None and found.project_domain is not None:
        body["project"] = {
            "domain": {"id": found.project_domain.id, "name": found.project_domain.name},
            "id": found.project.id,
            "name": found.project.name,
        }
        body["is_domain"] = found.project.is_domain
    if found.domain is not None:
        body["domain"] = {"id": found.domain.id, "name": found.domain.name}
    if claims.system:
        body["system"] = {"all": True}
    if claims.scoped:
        body["roles"] = [{"id": role.id, "name": role.name} for role in found.roles]
        if catalog:
            body["catalog"] = service_catalog(found)
    credential = found.application_credential
    if credential is not None:
        body["application_credential"] = {
            "id": credential.id,
            "name": credential.name,
            "restricted": not credential.unrestricted,
        }
    return {"token": body}


def service_catalog(found: Standing) -> list[View]:
    """The catalog for a token; endpoints whose URL needs a scope it lacks are left out."""
    values = {"user_id": found.user.id}
    if found.project is not None:
        values |= {"project_id": found.project.id, "tenant_id": found.project.id}
    result = []
    for service, endpoints in found.catalog:
        shown = []
        for endpoint in endpoints:
            url = fill(endpoint.url, values)
            if url is not None:
                shown.append(
                    {
                        "id": endpoint.id,
                        "interface": endpoint.interface,
                        "region_id": endpoint.region_id,
                        "region": endpoint.region_id,
                        "url": url,
                    }
                )
        result.append(
            {"endpoints": shown, "id": service.id, "type": service.type, "name": service.name}
        )
    return result


def fill(url: str, values: dict[str, str]) -> str | None:
    """``url`` with ``$(name)s`` and ``%(name)s`` replaced; None when a value is missing."""
    if any(name not in values for name in _SUBSTITUTE.findall(url)):
        return None
    return _SUBSTITUTE.sub(lambda match: values[match[1]], url)


def project(item: Project, link: Link) -> View:
    """A project."""
    shown = {
        **item.extra,
        "id": item.id,
        "name": item.name,
        "domain_id": item.domain_id or None,
        "description": item.description,
        "enabled": item.enabled,
        "parent_id": item.parent_id,
        "is_domain": item.is_domain,
        "tags": list(item.tags),
        "options": item.options,
    }
    return {**shown, "links": {"self": link("projects", item.id)}}


def domain(item: Project, link: Link) -> View:
    """A domain."""
    return {
        **item.extra,
        "id": item.id,
        "name": item.name,
        "description": item.description,
        "enabled": item.enabled,
        "tags": list(item.tags),
        "options": item.options,
        "links": {"self": link("domains", item.id)},
    }


def user(item: User, link: Link) -> View:
    """A user, never with anything of the password."""
    shown: View = {
        **item.extra,
        "id": item.id,
        "name": item.name,
        "domain_id": item.domain_id,
        "enabled": item.enabled,
        "password_expires_at": None,
        "options": item.options,
        "links": {"self": link("users", item.id)},
    }
    if item.default_project_id is not None:
        shown["default_project_id"] = item.default_project_id
    return shown


def group(item: Group, link: Link) -> View:
    """A group."""
    return {
        **item.extra,
        "id": item.id,
        "name": item.name,
        "domain_id": item.domain_id,
        "description": item.description,
        "links": {"self": link("groups", item.id)},
    }


def role(item: Role, link: Link) -> View:
    """A role."""
    return {
        **item.extra,
        "id": item.id,
        "name": item.name,
        "domain_id": item.domain_id or None,
        "description": item.description,
        "options": item.options,
        "links": {"self": link("roles", item.id)},
    }


def region(item: Region, link: Link) -> View:
    """A region."""
    return {
        **item.extra,
        "id": item.id,
        "description": item.description,
        "parent_region_id": item.parent_region_id,
        "links": {"self": link("regions", item.id)},
    }


def service(item: Service, link: Link) -> View:
    """A service."""
    return {
        **item.extra,
        "id": item.id,
        "type": item.type,
        "name": item.name,
        "enabled": item.enabled,
        "description": item.description,
        "links": {"self": link("services", item.id)},
    }


def endpoint(item: Endpoint, link: Link) -> View:
    """An endpoint."""
    return {
        **item.extra,
        "id": item.id,
        "service_id": item.service_id,
        "region_id": item.region_id,
        "region": item.region_id,
        "interface": item.interface,
        "url": item.url,
        "enabled": item.enabled,
        "links": {"self": link("endpoints", item.id)},
    }


def application_credential(item: ApplicationCredential, roles: dict[str, Role], link: Link) -> View:
    """An application credential, without its secret; ``roles`` by id."""
    expires = None if item.expires_at is None else time(item.expires_at).removesuffix("Z")
    return {
        "id": item.id,
        "name": item.name,
        "description": item.description or None,
        "user_id": item.user_id,
        "project_id": item.project_id,
        "system": None,
        "expires_at": expires,
        "unrestricted": item.unrestricted,
        "roles": [
            {"id": r.id, "name": r.name, "domain_id": r.domain_id or None}
            for r in (roles[role_id] for role_id in item.role_ids if role_id in roles)
        ],
        "links": {"self": link("users", item.user_id, "application_credentials", item.id)},
    }


def credential(item: Credential, blob: str, link: Link) -> View:
    """A credential with its opened blob."""
    return {
        **item.extra,
        "id": item.id,
        "user_id": item.user_id,
        "project_id": item.project_id,
        "type": item.type,
        "blob": blob,
        "links": {"self": link("credentials", item.id)},
    }


def registered_limit(item: RegisteredLimit, link: Link) -> View:
    """A registered limit."""
    return {
        "id": item.id,
        "service_id": item.service_id,
        "region_id": item.region_id or None,
        "resource_name": item.resource_name,
        "default_limit": item.default_limit,
        "description": item.description or None,
        "links": {"self": link("registered_limits", item.id)},
    }


def limit(pair: tuple[Limit, RegisteredLimit], link: Link) -> View:
    """A limit and the registered one it replaces."""
    item, registered = pair
    return {
        "id": item.id,
        "project_id": item.project_id,
        "domain_id": item.domain_id,
        "service_id": registered.service_id,
        "region_id": registered.region_id or None,
        "resource_name": registered.resource_name,
        "resource_limit": item.resource_limit,
        "description": item.description or None,
        "links": {"self": link("limits", item.id)},
    }
