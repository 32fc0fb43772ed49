"""Who sees which rows beside their own: the clauses every list and lookup of a project uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.embedded.network.attrs import Kind
from kilonova.embedded.network.tables import (
    NETWORKS,
    PORTS,
    RULES,
    SECURITY_GROUPS,
    SUBNETPOOLS,
    SUBNETS,
)

Clause = sa.ColumnElement[bool]


def clause(kind: Kind, project: Any) -> Clause:
    """What a project (or the one of a parameter) sees: its own rows and those it is let see."""
    return in_table(kind.name, kind.table, project)


def in_table(name: str, table: sa.Table, project: Any) -> Clause:
    """The same for the kind of that name and its table."""
    mine = table.c.project_id == project
    more = _MORE.get(name)
    return mine if more is None else sa.or_(mine, more(project))


def sees(tx: Tx, kind: Kind, row_id: str, project: str) -> bool:
    """Whether a project sees a row."""
    statement = sa.select(kind.table.c.id).where(kind.table.c.id == row_id, clause(kind, project))
    return tx.execute(statement).first() is not None


def _networks(_project: Any) -> Clause:
    return sa.or_(NETWORKS.c.shared, NETWORKS.c.external)


def _subnets(project: Any) -> Clause:
    """Those of networks the project has or sees as shared or external."""
    return SUBNETS.c.network_id.in_(
        sa.select(NETWORKS.c.id).where(
            sa.or_(NETWORKS.c.shared, NETWORKS.c.external, NETWORKS.c.project_id == project)
        )
    )


def _ports(project: Any) -> Clause:
    """Those on the project's own networks."""
    return PORTS.c.network_id.in_(sa.select(NETWORKS.c.id).where(NETWORKS.c.project_id == project))


def _groups(_project: Any) -> Clause:
    return SECURITY_GROUPS.c.shared


def _rules(project: Any) -> Clause:
    """Those of the project's own groups."""
    return RULES.c.security_group_id.in_(
        sa.select(SECURITY_GROUPS.c.id).where(SECURITY_GROUPS.c.project_id == project)
    )


def _pools(_project: Any) -> Clause:
    return SUBNETPOOLS.c.shared


_MORE: dict[str, Callable[[Any], Clause]] = {
    "network": _networks,
    "subnet": _subnets,
    "port": _ports,
    "security_group": _groups,
    "security_group_rule": _rules,
    "subnetpool": _pools,
}
