"""Quotas: what a project may have and what it uses."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.base.errors import TooLarge
from kilonova.db.database import Tx
from kilonova.embedded.volume.settings import Settings
from kilonova.embedded.volume.tables import LIMIT, SNAPSHOT, VOLUME

RESOURCES = (
    "volumes", "snapshots", "gigabytes", "per_volume_gigabytes", "backups", "backup_gigabytes",
    "groups",
)  # fmt: skip
DEFAULT_CLASS = "class:default"


def defaults(tx: Tx, settings: Settings) -> dict[str, int]:
    """The limits of projects that have none of their own."""
    built_in = {
        "volumes": settings.quota_volumes,
        "snapshots": settings.quota_snapshots,
        "gigabytes": settings.quota_gigabytes,
        "per_volume_gigabytes": settings.quota_per_volume,
        "backups": 10,
        "backup_gigabytes": 1000,
        "groups": 10,
    }
    return {**built_in, **_own(tx, DEFAULT_CLASS)}


def limits(tx: Tx, settings: Settings, project_id: str) -> dict[str, int]:
    """The limits of a project."""
    return {**defaults(tx, settings), **_own(tx, project_id)}


def _own(tx: Tx, project_id: str) -> dict[str, int]:
    rows = tx.execute(
        sa.select(LIMIT.c.resource, LIMIT.c.value).where(LIMIT.c.project_id == project_id)
    )
    return {row[0]: row[1] for row in rows}


def usage(tx: Tx, project_id: str) -> dict[str, int]:
    """What the project has now; ``gigabytes`` counts snapshots too."""
    used = dict.fromkeys(RESOURCES, 0)
    for name, table in (("volumes", VOLUME), ("snapshots", SNAPSHOT)):
        row = tx.execute(
            sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(table.c.size), 0)).where(
                table.c.project_id == project_id
            )
        ).one()
        used[name] = int(row[0])
        used["gigabytes"] += int(row[1])
    return used


def fit(
    tx: Tx,
    settings: Settings,
    project_id: str,
    *,
    volumes: int = 0,
    snapshots: int = 0,
    gigabytes: int = 0,
    size: int = 0,
) -> None:
    """TooLarge when the project may not have that much more; ``size`` is one volume's (GiB).

    The write lock of SQLite, or the locked rows of limits, keep two callers apart.
    """
    tx.execute(sa.select(LIMIT.c.value).where(LIMIT.c.project_id == project_id).with_for_update())
    most = limits(tx, settings, project_id)
    used = usage(tx, project_id)
    if 0 <= most["per_volume_gigabytes"] < size:
        raise TooLarge(
            f"Requested volume size {size}G is larger than maximum allowed limit "
            f"{most['per_volume_gigabytes']}G."
        )
    for name, more in (
        ("gigabytes", gigabytes),
        ("volumes", volumes),
        ("snapshots", snapshots),
    ):
        if more and 0 <= most[name] < used[name] + more:
            if name == "gigabytes":
                raise TooLarge(
                    f"Requested volume or snapshot exceeds allowed gigabytes quota. Requested "
                    f"{more}G, quota is {most[name]}G and {used[name]}G has been consumed."
                )
            raise TooLarge(
                f"Maximum number of {name} allowed ({most[name]}) exceeded for quota '{name}'."
            )


def put(tx: Tx, project_id: str, values: dict[str, int]) -> None:
    """Set limits of a project."""
    for name, value in values.items():
        key = (LIMIT.c.project_id == project_id, LIMIT.c.resource == name)
        if tx.execute(LIMIT.update().where(*key).values(value=value)).rowcount == 0:
            tx.execute(LIMIT.insert().values(project_id=project_id, resource=name, value=value))


def reset(tx: Tx, project_id: str) -> None:
    """Forget a project's own limits."""
    tx.execute(LIMIT.delete().where(LIMIT.c.project_id == project_id))
