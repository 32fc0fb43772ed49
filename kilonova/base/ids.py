"""Identifiers as something given: random ones, counted ones for tests, seeded ones for retries."""

from __future__ import annotations

import itertools
import secrets
import uuid
from typing import Protocol


class Ids(Protocol):
    """A source of new identifiers."""

    def uuid(self) -> str:
        """A UUID with dashes."""

    def hex(self) -> str:
        """A UUID without dashes (projects, users, roles)."""

    def token(self, size: int = 32) -> str:
        """An unguessable URL-safe word made of ``size`` random bytes."""


class RandomIds:
    """Identifiers from the system's random source."""

    def uuid(self) -> str:
        return str(uuid.uuid4())

    def hex(self) -> str:
        return uuid.uuid4().hex

    def token(self, size: int = 32) -> str:
        return secrets.token_urlsafe(size)


class SeededIds:
    """The same identifiers in the same order for the same seed.

    A request repeated with the same ``Idempotency-Key`` draws the same ids, so that a repetition
    after a crash meets its own rows instead of making new ones. ``token`` stays random.
    """

    def __init__(self, *seed: str) -> None:
        self._seed = "\x1f".join(seed)
        self._space: uuid.UUID | None = None
        self._count = itertools.count()

    def uuid(self) -> str:
        # Most who are given a source draw nothing from it.
        if self._space is None:
            self._space = uuid.uuid5(uuid.NAMESPACE_URL, self._seed)
        return str(uuid.uuid5(self._space, str(next(self._count))))

    def hex(self) -> str:
        return self.uuid().replace("-", "")

    def token(self, size: int = 32) -> str:
        return secrets.token_urlsafe(size)


def request_id() -> str:
    """A new request id in the form OpenStack services use (``req-<uuid>``)."""
    return f"req-{uuid.uuid4()}"
