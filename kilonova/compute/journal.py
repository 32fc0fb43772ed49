"""What an agent was asked and what it answered, so that nothing is done twice or for a ghost."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import sqlite3
from pathlib import Path

from kilonova.base.clock import Clock
from kilonova.base.errors import Conflict, Unavailable
from kilonova.domain.operations import OperationId, OperationReply

UNDO_SUFFIX = "/undo"
KEEP_SECONDS = 86_400
PRUNE_EVERY = 3_600

_TABLE = """
CREATE TABLE IF NOT EXISTS operations (
  host TEXT NOT NULL, saga TEXT NOT NULL, step TEXT NOT NULL, epoch INTEGER NOT NULL,
  name TEXT NOT NULL, server_id TEXT NOT NULL, state TEXT NOT NULL,
  result BLOB NOT NULL DEFAULT x'', error TEXT NOT NULL DEFAULT '',
  message TEXT NOT NULL DEFAULT '', touched REAL NOT NULL,
  PRIMARY KEY (host, saga, step)) WITHOUT ROWID
"""
_BEGIN = """
INSERT INTO operations(host, saga, step, epoch, name, server_id, state, touched)
VALUES (?, ?, ?, ?, ?, ?, 'running', ?)
ON CONFLICT DO UPDATE SET epoch = excluded.epoch, state = 'running', touched = excluded.touched
"""
_FINISH = """
UPDATE operations SET state = ?, result = ?, error = ?, message = ?, touched = ?
WHERE host = ? AND saga = ? AND step = ?
"""

log = logging.getLogger(__name__)


class Stale(Conflict):
    """Somebody newer speaks for the saga."""


class Journal:
    """A file (None: memory) shared by all agents of a process.

    An entry is in the file when the call returns and survives the death of the process. It is not
    forced to the disk: a power cut ends the guests of the host as well, and every operation may be
    repeated. A file that a power cut damaged is set aside.
    """

    def __init__(self, file: Path | None, *, clock: Clock) -> None:
        self._clock = clock
        self._pruned = clock.now()
        self._db = _open(file)

    def begin(
        self, host: str, who: OperationId, name: str, server_id: str
    ) -> OperationReply | None:
        """Note that the work begins; the reply to give again if it ended before.

        A failure is answered again to the epoch that met it, and tried anew for a later one; that
        of an undo is tried anew by anybody.
        Raises Stale when the saga was already heard with a higher epoch.
        """
        self.fence(host, who)
        row = self._db.execute(
            "SELECT state, result, error, message, epoch FROM operations"
            " WHERE host = ? AND saga = ? AND step = ?",
            (host, who.saga, who.step),
        ).fetchone()
        if row is not None:
            failed_now = row[0] == "failed" and row[4] == who.epoch and not is_undo(who)
            if row[0] == "done" or failed_now:
                return OperationReply(*row[:4])
        self._db.execute(
            _BEGIN, (host, who.saga, who.step, who.epoch, name, server_id, self._stamp())
        )
        return None

    def fence(self, host: str, who: OperationId) -> None:
        """Raise Stale when the saga was already heard with a higher epoch."""
        (newest,) = self._db.execute(
            "SELECT max(epoch) FROM operations WHERE host = ? AND saga = ?", (host, who.saga)
        ).fetchone()
        if newest is not None and newest > who.epoch:
            raise Stale(f"Epoch {who.epoch} of saga {who.saga} was superseded by {newest}.")

    def join(self, host: str, who: OperationId) -> None:
        """Note the epoch of somebody who asks for work under way; raises Stale."""
        self.fence(host, who)
        self._db.execute(
            "UPDATE operations SET epoch = ? WHERE host = ? AND saga = ? AND step = ?",
            (who.epoch, host, who.saga, who.step),
        )

    def finish(self, host: str, who: OperationId, reply: OperationReply) -> None:
        """Keep the answer."""
        self._db.execute(
            _FINISH,
            (
                *(reply.state, reply.result, reply.error, reply.message, self._stamp()),
                *(host, who.saga, who.step),
            ),
        )

    def unfinished(self, host: str) -> list[tuple[str, str]]:
        """(operation, server id) of work that began and has no answer."""
        return self._db.execute(
            "SELECT name, server_id FROM operations WHERE host = ? AND state = 'running'", (host,)
        ).fetchall()

    def prune(self) -> int:
        """Forget what is older than a day, at most once an hour; how many entries."""
        now = self._clock.now()
        if now - self._pruned < dt.timedelta(seconds=PRUNE_EVERY):
            return 0
        self._pruned = now
        done = self._db.execute(
            "DELETE FROM operations WHERE touched < ?", (now.timestamp() - KEEP_SECONDS,)
        )
        return done.rowcount

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _stamp(self) -> float:
        return self._clock.now().timestamp()


def is_undo(who: OperationId) -> bool:
    """Whether a saga takes something back by this operation (it goes on trying to)."""
    return who.step.endswith(UNDO_SUFFIX)


def _open(file: Path | None) -> sqlite3.Connection:
    if file is None:
        return _connect(":memory:")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _connect(str(file))
    except sqlite3.OperationalError as error:
        raise Unavailable(f"The operation journal {file} cannot be used: {error}.") from error
    except sqlite3.DatabaseError as error:
        aside = file.with_suffix(".damaged")
        log.warning("The operation journal %s is damaged (%s); kept as %s", file, error, aside)
        file.replace(aside)
        for extra in ("-wal", "-shm"):
            file.with_name(file.name + extra).unlink(missing_ok=True)
        return _connect(str(file))


def _connect(where: str) -> sqlite3.Connection:
    db = sqlite3.connect(where, isolation_level=None, check_same_thread=False, timeout=5)
    with contextlib.ExitStack() as undo:
        undo.callback(db.close)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        db.execute(_TABLE)
        undo.pop_all()
    return db
