"""Bring a database's schema to the newest version of one history, with Alembic.

A history is a package with a ``versions`` directory of Alembic revisions. Each history keeps its
own version table, so that several may share one database.
"""

from __future__ import annotations

import importlib.util
import re
import threading
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from kilonova.db.database import Database, Tx

# Alembic's ``op`` is one object for the whole process: one migration at a time.
_one = threading.Lock()

_REVISION = re.compile(r"^(down_)?revision\b[^=]*=\s*(?:[\"'](\w+)[\"']|None)", re.MULTILINE)


def upgrade(db: Database, history: str) -> bool:
    """Run the revisions of ``history`` (``kilonova.db.migrations.api``) that are missing.

    True when something was done. One transaction for all; where the engine cannot roll DDL back
    (MariaDB), each revision is recorded as it ends. A process that comes second waits.
    """
    head = newest(history)
    table = version_table(history)
    if db.run_sync(_current, table) == head:
        return False
    with _one:
        return db.run_sync(_upgrade, history, table, head)


def newest(history: str) -> str:
    """The last revision of a history, read from its files without importing Alembic's machinery."""
    revisions: set[str] = set()
    parents: set[str] = set()
    for file in sorted(_directory(history).glob("versions/*.py")):
        for down, name in _REVISION.findall(file.read_text(encoding="utf-8")):
            (parents if down else revisions).add(name)
    heads = revisions - parents
    if len(heads) != 1:
        raise ValueError(f"{history} has {len(heads)} newest revisions, it must have one")
    return heads.pop()


def version(db: Database, history: str) -> str | None:
    """The revision a database is at; None when the history was never applied."""
    return db.run_sync(_current, version_table(history))


def stamp(db: Database, history: str, revision: str) -> None:
    """Say that a database is at a revision (or ``head``) without running anything.

    Raises LookupError for a revision the history does not have.
    """
    wanted = newest(history) if revision == "head" else revision
    if not list(_directory(history).glob(f"versions/{wanted}_*.py")):
        raise LookupError(f"There is no revision {revision}; the newest is {newest(history)}.")
    table = version_table(history)

    def write(tx: Tx) -> None:
        versions = sa.Table(table, sa.MetaData(), sa.Column("version_num", sa.String(32)))
        if not sa.inspect(tx).has_table(table):
            versions.create(tx)
        tx.execute(sa.delete(versions))
        tx.execute(sa.insert(versions).values(version_num=wanted))

    db.run_sync(write)


def version_table(history: str) -> str:
    """``alembic_version_<last but common words>``: one per history."""
    words = [w for w in history.split(".") if w not in ("kilonova", "db", "embedded", "migrations")]
    return "alembic_version_" + "_".join(words)


def _directory(history: str) -> Path:
    spec = importlib.util.find_spec(history)
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(f"no migrations package {history}")
    return Path(next(iter(spec.submodule_search_locations)))


def _current(tx: Tx, table: str) -> str | None:
    if not sa.inspect(tx).has_table(table):
        return None
    found: str | None = tx.execute(sa.text(f"SELECT version_num FROM {table}")).scalar()
    return found


def _upgrade(tx: Tx, history: str, table: str, head: str) -> bool:
    # Slow to import, and most starts find nothing to do.
    from alembic.operations import Operations  # noqa: PLC0415
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    with _lock(tx, table):
        if _current(tx, table) == head:
            return False
        scripts = ScriptDirectory(str(_directory(history)))
        context = MigrationContext.configure(
            tx,
            opts={
                "version_table": table,
                "fn": lambda rev, _context: scripts._upgrade_revs("head", rev),
                "transactional_ddl": False,
            },
        )
        with Operations.context(context):
            context.run_migrations()
    return True


class _lock:
    """Let one process migrate at a time (SQLite's write transaction is lock enough)."""

    def __init__(self, tx: Tx, name: str) -> None:
        self._tx = tx
        self._name = name

    def __enter__(self) -> None:
        if self._tx.dialect.name == "postgresql":
            self._tx.execute(
                sa.text("SELECT pg_advisory_xact_lock(hashtext(:n))"), {"n": self._name}
            )
        elif self._tx.dialect.name in ("mysql", "mariadb"):
            self._tx.execute(sa.text("SELECT GET_LOCK(:n, 120)"), {"n": self._name[:64]})

    def __exit__(self, *_: object) -> None:
        if self._tx.dialect.name in ("mysql", "mariadb"):
            self._tx.execute(sa.text("SELECT RELEASE_LOCK(:n)"), {"n": self._name[:64]})


def differences(db: Database, metadata: sa.MetaData) -> list[str]:
    """Where the tables of a migrated database differ from ``metadata``, for tests."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415

    def compare(tx: Tx) -> list[str]:
        context = MigrationContext.configure(
            tx,
            opts={
                "target_metadata": metadata,
                "include_object": _ours(metadata),
                "compare_type": True,
            },
        )
        return [str(d) for d in compare_metadata(context, metadata)]

    return db.run_sync(compare)


def _ours(metadata: sa.MetaData) -> Callable[[object, str | None, str, bool, object], bool]:
    def include(
        _item: object, name: str | None, kind: str, _reflected: bool, _other: object
    ) -> bool:
        return not (kind == "table" and (name or "").startswith("alembic_version"))

    return include
