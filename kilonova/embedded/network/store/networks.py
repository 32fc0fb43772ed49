"""Networks and subnets in the store: segments, the default external one, prefixes."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.embedded.network.store import rows
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import NETWORKS, SUBNETPOOLS, SUBNETS

_DEFAULT_EXTERNAL = Prepared(
    sa.select(NETWORKS.c.id).where(NETWORKS.c.external, NETWORKS.c.is_default)
)
_OF_NETWORKS = Prepared(
    sa.select(SUBNETS)
    .where(SUBNETS.c.network_id.in_(sa.bindparam("networks", expanding=True)))
    .order_by(SUBNETS.c.created_at, SUBNETS.c.id)
)


def segments(tx: Tx) -> set[int]:
    """The VNIs in use."""
    statement = sa.select(NETWORKS.c.segmentation_id).where(NETWORKS.c.segmentation_id.is_not(None))
    return set(tx.execute(statement).scalars())


def default_external(tx: Tx) -> str | None:
    """The external network routers get when nobody names one."""
    found: str | None = _DEFAULT_EXTERNAL.scalar(tx)
    return found


def by_name(tx: Tx, name: str, project_id: str | None = None) -> str | None:
    """The oldest network of a name (of a project)."""
    statement = sa.select(NETWORKS.c.id).where(NETWORKS.c.name == name)
    if project_id is not None:
        statement = statement.where(NETWORKS.c.project_id == project_id)
    statement = statement.order_by(NETWORKS.c.created_at, NETWORKS.c.id).limit(1)
    found: str | None = tx.execute(statement).scalar()
    return found


def lock(tx: Tx, network_id: str) -> None:
    """Keep others from changing what belongs to a network until the transaction ends."""
    tx.execute(sa.select(NETWORKS.c.id).where(NETWORKS.c.id == network_id).with_for_update())


def subnets(tx: Tx, network_ids: list[str]) -> list[Row]:
    """All subnets of networks, oldest first."""
    found: list[Row] = []
    for some in rows.chunks(network_ids):
        found += _OF_NETWORKS.dicts(tx, {"networks": some})
    return found


def subnets_by_id(tx: Tx, subnet_ids: list[str]) -> list[Row]:
    """Subnets by their ids."""
    found: list[Row] = []
    for some in rows.chunks(subnet_ids):
        statement = sa.select(SUBNETS).where(SUBNETS.c.id.in_(some))
        found += [dict(row._mapping) for row in tx.execute(statement)]
    return found


def prefixes(tx: Tx, version: int) -> list[str]:
    """Every prefix of an IP version in use."""
    return list(
        tx.execute(sa.select(SUBNETS.c.cidr).where(SUBNETS.c.ip_version == version)).scalars()
    )


def pool_prefixes(tx: Tx, pool_id: str) -> list[str]:
    """Prefixes taken from a subnet pool."""
    statement = sa.select(SUBNETS.c.cidr).where(SUBNETS.c.subnetpool_id == pool_id)
    return list(tx.execute(statement).scalars())


def default_pool(tx: Tx, version: int) -> str | None:
    """The default subnet pool of an IP version."""
    statement = sa.select(SUBNETPOOLS.c.id).where(
        SUBNETPOOLS.c.is_default, SUBNETPOOLS.c.ip_version == version
    )
    found: str | None = tx.execute(statement).scalar()
    return found


def other_default(tx: Tx, network_id: str) -> str | None:
    """A default external network beside the named one."""
    statement = sa.select(NETWORKS.c.id).where(NETWORKS.c.is_default, NETWORKS.c.id != network_id)
    found: str | None = tx.execute(statement).scalar()
    return found


def remove_subnets(tx: Tx, network_id: str) -> None:
    """Delete all subnets of a network (nobody has addresses there any more)."""
    tx.execute(SUBNETS.delete().where(SUBNETS.c.network_id == network_id))
