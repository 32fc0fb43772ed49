"""What becomes of a request that claims an idempotency key."""

from __future__ import annotations

import msgspec


class Stored(msgspec.Struct, frozen=True):
    """The request was answered before; ``reply`` is what `finish` was given."""

    reply: bytes


class Fresh(msgspec.Struct, frozen=True):
    """The key is yours: do the work, then `finish` or `release`.

    ``seed`` is the same again when an earlier claim of the key died or was released, so that the
    work draws the same ids; it is another one when an answer was kept and its time is over.
    """

    seed: str = ""


class InProgress(msgspec.Struct, frozen=True):
    """The same request is being worked on right now."""


class Mismatch(msgspec.Struct, frozen=True):
    """The key was used before for another request."""


Begun = Fresh | InProgress | Mismatch | Stored
