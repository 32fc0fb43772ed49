"""Application credentials, and other credentials kept for users."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from kilonova.base.errors import NotFound
from kilonova.db.database import Tx
from kilonova.embedded.identity.records import ApplicationCredential, Credential
from kilonova.embedded.identity.store import rows
from kilonova.embedded.identity.tables import (
    APPLICATION_CREDENTIAL,
    APPLICATION_CREDENTIAL_ROLE,
    CREDENTIAL,
)


def find_application(tx: Tx, **equal: str) -> ApplicationCredential | None:
    """An application credential by column values (``id``; ``user_id`` and ``name``)."""
    found = rows.find(tx, ApplicationCredential, APPLICATION_CREDENTIAL, **equal)
    return None if found is None else _with_roles(tx, [found])[0]


def get_application(tx: Tx, user_id: str, credential_id: str) -> ApplicationCredential:
    """An application credential of a user; NotFound."""
    found = find_application(tx, id=credential_id, user_id=user_id)
    if found is None:
        raise NotFound(f"Could not find application credential: {credential_id}.")
    return found


def application_page(
    tx: Tx, filters: Sequence[rows.Where], part: rows.Part | None = None
) -> list[ApplicationCredential]:
    """Application credentials by filters."""
    found = tx.execute(rows.select(APPLICATION_CREDENTIAL, filters, part)).all()
    return _with_roles(tx, [rows.load(ApplicationCredential, row) for row in found])


def create_application(tx: Tx, item: ApplicationCredential) -> None:
    """Write a new application credential with its roles; Conflict."""
    rows.insert(tx, APPLICATION_CREDENTIAL, item, what="application credential of this user")
    values = [{"credential_id": item.id, "role_id": role_id} for role_id in item.role_ids]
    if values:
        tx.execute(APPLICATION_CREDENTIAL_ROLE.insert(), values)


def delete_application(tx: Tx, user_id: str, credential_id: str) -> None:
    """Remove an application credential; NotFound."""
    if not rows.remove(tx, APPLICATION_CREDENTIAL, id=credential_id, user_id=user_id):
        raise NotFound(f"Could not find application credential: {credential_id}.")
    rows.remove(tx, APPLICATION_CREDENTIAL_ROLE, credential_id=credential_id)


def delete_applications(tx: Tx, user_id: str, project_id: str | None = None) -> None:
    """Remove those of a user, in one project only if given."""
    filters = [rows.Where("user_id", user_id)]
    if project_id is not None:
        filters.append(rows.Where("project_id", project_id))
    for item in application_page(tx, filters):
        delete_application(tx, user_id, item.id)


def get(tx: Tx, credential_id: str) -> Credential:
    """A credential; NotFound."""
    found = rows.find(tx, Credential, CREDENTIAL, id=credential_id)
    if found is None:
        raise NotFound(f"Could not find credential: {credential_id}.")
    return found


def page(tx: Tx, filters: Sequence[rows.Where], part: rows.Part | None = None) -> list[Credential]:
    """Credentials by filters."""
    return [
        rows.load(Credential, row) for row in tx.execute(rows.select(CREDENTIAL, filters, part))
    ]


def create(tx: Tx, item: Credential) -> None:
    """Write a new credential; Conflict."""
    rows.insert(tx, CREDENTIAL, item, what="credential")


def update(tx: Tx, item: Credential) -> None:
    """Write a changed credential."""
    rows.replace(tx, CREDENTIAL, item, what="credential")


def delete(tx: Tx, credential_id: str) -> None:
    """Remove a credential; NotFound."""
    if not rows.remove(tx, CREDENTIAL, id=credential_id):
        raise NotFound(f"Could not find credential: {credential_id}.")


def _with_roles(tx: Tx, items: Sequence[ApplicationCredential]) -> list[ApplicationCredential]:
    c = APPLICATION_CREDENTIAL_ROLE.c
    query = sa.select(c.credential_id, c.role_id).where(
        c.credential_id.in_([item.id for item in items])
    )
    roles: dict[str, list[str]] = {item.id: [] for item in items}
    for credential_id, role_id in tx.execute(query.order_by(c.role_id)) if items else ():
        roles[credential_id].append(role_id)
    return [msgspec.structs.replace(item, role_ids=tuple(roles[item.id])) for item in items]
