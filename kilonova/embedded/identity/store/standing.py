"""What the claims of a token are worth by the rows there are now."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.embedded.identity.records import (
    ApplicationCredential,
    Endpoint,
    Project,
    Role,
    Service,
    User,
)
from kilonova.embedded.identity.store import catalog, credentials, projects, roles, rows, users
from kilonova.embedded.identity.tables import REVOKED


class Claims(msgspec.Struct, frozen=True):
    """What a token says. Times in microseconds since 1970; at most one scope."""

    user_id: str
    methods: tuple[str, ...]
    audit_ids: tuple[str, ...]
    issued_at: int
    expires_at: int
    project_id: str | None = None
    domain_id: str | None = None
    system: bool = False
    application_credential_id: str | None = None

    @property
    def scoped(self) -> bool:
        """Whether there is a scope."""
        return self.project_id is not None or self.domain_id is not None or self.system


class Standing(msgspec.Struct, frozen=True):
    """Claims with everything they stand for."""

    claims: Claims
    user: User
    user_domain: Project
    project: Project | None = None
    project_domain: Project | None = None
    domain: Project | None = None
    roles: tuple[Role, ...] = ()
    application_credential: ApplicationCredential | None = None
    catalog: tuple[tuple[Service, tuple[Endpoint, ...]], ...] = ()


def find(tx: Tx, claims: Claims) -> tuple[int, Standing | None]:
    """The revision of the database, and the standing of the claims; None if they do not hold."""
    number = rows.revision(tx)
    if is_revoked(tx, claims.audit_ids):
        return number, None
    return number, _stand(tx, claims)


def is_revoked(tx: Tx, audit_ids: tuple[str, ...]) -> bool:
    """Whether the token itself (its first audit id) was revoked."""
    query = sa.select(REVOKED.c.audit_id).where(REVOKED.c.audit_id == audit_ids[0])
    return tx.execute(query).first() is not None


def revoke(tx: Tx, claims: Claims, now: int) -> None:
    """End a token before its time; rows of tokens that have ended anyway are dropped."""
    tx.execute(REVOKED.delete().where(REVOKED.c.expires_at < now))
    if not is_revoked(tx, claims.audit_ids):
        values = {"audit_id": claims.audit_ids[0], "expires_at": claims.expires_at}
        tx.execute(REVOKED.insert().values(**values))


def active_catalog(tx: Tx) -> tuple[tuple[Service, tuple[Endpoint, ...]], ...]:
    """Enabled services with their enabled endpoints; services without any are left out."""
    enabled = [rows.Where("enabled", value=True)]
    by_service: dict[str, list[Endpoint]] = {}
    for endpoint in catalog.endpoints(tx, enabled):
        by_service.setdefault(endpoint.service_id, []).append(endpoint)
    services = catalog.services(tx, enabled)
    return tuple((s, tuple(by_service[s.id])) for s in services if s.id in by_service)


def _stand(tx: Tx, claims: Claims) -> Standing | None:
    user = users.find(tx, claims.user_id)
    if user is None or not user.enabled or claims.issued_at < user.valid_from:
        return None
    user_domain = projects.find(tx, user.domain_id)
    if user_domain is None or not _holds(user_domain, claims):
        return None
    base = Standing(claims, user, user_domain)
    return _with_roles(tx, base) if claims.scoped else base


def _with_roles(tx: Tx, base: Standing) -> Standing | None:
    placed = _scope(tx, base)
    if placed is None:
        return None
    found, role_ids = placed
    if base.claims.application_credential_id is not None:
        item = credentials.find_application(tx, id=base.claims.application_credential_id)
        if item is None or not set(item.role_ids) <= set(role_ids):
            return None
        role_ids = roles.expand(item.role_ids, roles.implications(tx))
        found = msgspec.structs.replace(found, application_credential=item)
    order = {role_id: index for index, role_id in enumerate(role_ids)}
    named = sorted(roles.page(tx, (), ids=role_ids), key=lambda role: order[role.id])
    visible = tuple(role for role in named if not role.domain_id)
    if not visible:
        return None
    return msgspec.structs.replace(found, roles=visible, catalog=active_catalog(tx))


def _scope(tx: Tx, base: Standing) -> tuple[Standing, list[str]] | None:
    claims = base.claims
    if claims.project_id is not None:
        project = projects.find(tx, claims.project_id)
        if project is None or not _holds(project, claims):
            return None
        domain = project if project.is_domain else projects.find(tx, project.domain_id)
        if domain is None or not _holds(domain, claims):
            return None
        placed = msgspec.structs.replace(base, project=project, project_domain=domain)
        return placed, roles.on_project(tx, claims.user_id, project)
    if claims.domain_id is not None:
        domain = projects.find(tx, claims.domain_id)
        if domain is None or not domain.is_domain or not _holds(domain, claims):
            return None
        placed = msgspec.structs.replace(base, domain=domain)
        return placed, roles.on_domain(tx, claims.user_id, claims.domain_id)
    return base, roles.on_system(tx, claims.user_id)


def _holds(project: Project, claims: Claims) -> bool:
    return project.enabled and claims.issued_at >= project.valid_from
