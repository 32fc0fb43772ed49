"""What is kept, and told, of a server that found no host."""

from __future__ import annotations

import datetime as dt

import msgspec

from kilonova.domain.explain import Why
from kilonova.domain.request import Cut


class Failure(msgspec.Struct, frozen=True):
    """A host that was chosen and did not take the server after all."""

    host: str
    text: str


class Explanation(msgspec.Struct, frozen=True):
    """Why a server was not placed: what every step of the choice left out, where a claim failed,
    and (``why``) what would have to be different.

    ``why`` is None as long as only claims have failed: there were hosts then.
    """

    request_id: str
    server_id: str
    project_id: str
    user_id: str
    at: dt.datetime
    cuts: tuple[Cut, ...] = ()
    why: Why | None = None
    failures: tuple[Failure, ...] = ()
