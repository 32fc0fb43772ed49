"""Noting what happens, in the transaction in which it happens, where somebody wants to know.

Whoever wants to know is attached to the database (``Database.attach``); with nobody there a note
costs one look into a dictionary.
"""

from __future__ import annotations

from typing import Any, Protocol

from kilonova.db.database import Tx, attached
from kilonova.domain.server import Server

NOTES = "notes"


class Notes(Protocol):
    """Writes notifications beside the changes they tell of."""

    def note(self, tx: Tx, event: str, subject: Any, **more: Any) -> None:
        """Something happened to the subject."""

    def server_changed(
        self, tx: Tx, before: Server | None, after: Server, changed: frozenset[str]
    ) -> None:
        """These fields of a server's row were written; ``before`` is None when it is new."""


def notes(tx: Tx) -> Notes | None:
    """Who wants to know of this database, if anybody does."""
    found: Notes | None = attached(tx, NOTES)
    return found


def note(tx: Tx, event: str, subject: Any, /, **more: Any) -> None:
    """Tell of an event (``instance.lock``) with its subject: a Server or its id, an Aggregate, ….

    ``more`` are further facts, see ``kilonova.notifications.facts``.
    """
    wanted = notes(tx)
    if wanted is not None:
        wanted.note(tx, event, subject, **more)
