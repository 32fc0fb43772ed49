"""Security groups and rules in the store."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.embedded.network.store import rows
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import PORT_GROUPS, RULES, SECURITY_GROUPS

_DEFAULT_OF = Prepared(
    sa.select(SECURITY_GROUPS.c.id).where(SECURITY_GROUPS.c.default_of == sa.bindparam("project"))
)


def default_of(tx: Tx, project_id: str) -> str | None:
    """The id of a project's default group."""
    found: str | None = _DEFAULT_OF.scalar(tx, {"project": project_id})
    return found


def in_use(tx: Tx, group_id: str) -> bool:
    """Whether a port is in a group."""
    statement = sa.select(PORT_GROUPS.c.port_id).where(PORT_GROUPS.c.security_group_id == group_id)
    return tx.execute(statement.limit(1)).first() is not None


def rules_of(tx: Tx, group_ids: list[str]) -> dict[str, list[Row]]:
    """Group → its rules, oldest first."""
    found: dict[str, list[Row]] = {group: [] for group in group_ids}
    for some in rows.chunks(group_ids):
        statement = (
            sa.select(RULES)
            .where(RULES.c.security_group_id.in_(some))
            .order_by(RULES.c.created_at, RULES.c.id)
        )
        for row in tx.execute(statement):
            found[row.security_group_id].append(dict(row._mapping))
    return found


def same_rule(tx: Tx, group_id: str, wanted: dict[str, Any]) -> str | None:
    """The id of a rule of a group that says exactly this."""
    same = [
        RULES.c[key] == value if value is not None else RULES.c[key].is_(None)
        for key, value in wanted.items()
    ]
    statement = sa.select(RULES.c.id).where(RULES.c.security_group_id == group_id, *same)
    found: str | None = tx.execute(statement).scalar()
    return found


def remove_rules(tx: Tx, group_id: str) -> None:
    """Delete the rules of a group and those of others that speak of it."""
    tx.execute(
        RULES.delete().where(
            sa.or_(RULES.c.security_group_id == group_id, RULES.c.remote_group_id == group_id)
        )
    )
