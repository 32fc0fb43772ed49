"""What the identity service remembers, as frozen Structs."""

from __future__ import annotations

from typing import Any

import msgspec

DEFAULT_DOMAIN = "default"
EVERYWHERE = "all"


class Project(msgspec.Struct, frozen=True):
    """A project, or a domain (``is_domain``, empty ``domain_id``)."""

    id: str
    name: str
    domain_id: str
    parent_id: str | None
    description: str
    enabled: bool
    is_domain: bool
    options: dict[str, Any]
    extra: dict[str, Any]
    valid_from: int
    tags: tuple[str, ...] = ()


class User(msgspec.Struct, frozen=True):
    """A user; ``valid_from``: tokens issued before are not valid (microseconds since 1970)."""

    id: str
    name: str
    domain_id: str
    default_project_id: str | None
    enabled: bool
    options: dict[str, Any]
    extra: dict[str, Any]
    password_hash: str | None
    created_at: int
    valid_from: int

    def __repr__(self) -> str:
        return f"User(id={self.id!r}, name={self.name!r}, domain_id={self.domain_id!r})"


class Group(msgspec.Struct, frozen=True):
    """A group of users."""

    id: str
    name: str
    domain_id: str
    description: str
    extra: dict[str, Any]


class Role(msgspec.Struct, frozen=True):
    """A role; ``domain_id`` is empty for the roles of all domains."""

    id: str
    name: str
    domain_id: str
    description: str
    options: dict[str, Any]
    extra: dict[str, Any]


class Assignment(msgspec.Struct, frozen=True, order=True):
    """A role of a user or group on a project, a domain, or the system.

    ``inherited``: it counts on the projects below the target, not on the target itself.
    """

    actor_kind: str
    actor_id: str
    target_kind: str
    target_id: str
    role_id: str
    inherited: bool = False


class Region(msgspec.Struct, frozen=True):
    """A region; regions may lie in one another."""

    id: str
    parent_region_id: str | None
    description: str
    extra: dict[str, Any]


class Service(msgspec.Struct, frozen=True):
    """A service of the catalog."""

    id: str
    type: str
    name: str
    enabled: bool
    description: str
    extra: dict[str, Any]


class Endpoint(msgspec.Struct, frozen=True):
    """Where a service answers in a region, for ``public``, ``internal`` or ``admin`` use."""

    id: str
    service_id: str
    region_id: str | None
    interface: str
    url: str
    enabled: bool
    extra: dict[str, Any]


class ApplicationCredential(msgspec.Struct, frozen=True):
    """A secret that stands for its user in one project with some of the user's roles."""

    id: str
    name: str
    user_id: str
    project_id: str
    description: str
    secret_hash: str
    unrestricted: bool
    expires_at: int | None
    role_ids: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"ApplicationCredential(id={self.id!r}, name={self.name!r})"


class Credential(msgspec.Struct, frozen=True):
    """Something secret kept for a user (EC2 keys, TOTP seeds); ``blob`` is sealed."""

    id: str
    user_id: str
    project_id: str | None
    type: str
    blob: str
    extra: dict[str, Any]

    def __repr__(self) -> str:
        return f"Credential(id={self.id!r}, type={self.type!r})"


class RegisteredLimit(msgspec.Struct, frozen=True):
    """The limit of a resource where no project has its own; ``region_id`` may be empty."""

    id: str
    service_id: str
    region_id: str
    resource_name: str
    default_limit: int
    description: str


class Limit(msgspec.Struct, frozen=True):
    """A project's or domain's own limit in place of a registered one."""

    id: str
    registered_id: str
    project_id: str | None
    domain_id: str | None
    resource_limit: int
    description: str
