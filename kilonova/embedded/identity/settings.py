"""What the identity service can be told."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Cost(msgspec.Struct, frozen=True):
    """The work of one scrypt hash (RFC 7914): about ``128 · n · r`` bytes of memory."""

    n: int = 1 << 15
    r: int = 8
    p: int = 1


class Settings(msgspec.Struct, frozen=True):
    """``database``: SQLAlchemy URL. ``key_dir``: directory of the token keys, made when missing.

    ``token_seconds``: life of a token; ``expired_window_seconds``: how long after its end a token
    may still be looked at with ``allow_expired``. ``public_url``: what links start with instead of
    the Host header. ``list_limit``: most items in one page of a list.
    """

    database: str
    key_dir: Path
    token_seconds: int = 3600 * 24
    expired_window_seconds: int = 2 * 24 * 3600
    public_url: str | None = None
    list_limit: int = 1000
    cost: Cost = Cost()
    trust_forwarded: bool = False
