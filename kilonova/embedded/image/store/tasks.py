"""What became of imports; old rows are dropped as new ones come."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.embedded.image.records import Task
from kilonova.embedded.image.tables import TASK

_KEPT = 48 * 3600 * 1_000_000


def add(tx: Tx, task: Task) -> None:
    """Write a finished task; those older than two days go."""
    tx.execute(TASK.delete().where(TASK.c.created_at < task.created_at - _KEPT))
    values = {column.name: getattr(task, column.name) for column in TASK.columns}
    tx.execute(TASK.insert().values(**values))


def find(tx: Tx, task_id: str) -> Task | None:
    """One task."""
    row = tx.execute(sa.select(TASK).where(TASK.c.id == task_id)).first()
    return None if row is None else Task(**row._mapping)


def page(tx: Tx, image_id: str | None = None, limit: int = 1000) -> list[Task]:
    """Tasks, newest first; of one image only if given."""
    query = sa.select(TASK).order_by(TASK.c.created_at.desc(), TASK.c.id).limit(limit)
    if image_id is not None:
        query = query.where(TASK.c.image_id == image_id)
    return [Task(**row._mapping) for row in tx.execute(query)]
