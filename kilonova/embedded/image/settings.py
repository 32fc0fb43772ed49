"""What the image service can be told."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Settings(msgspec.Struct, frozen=True):
    """``database``: SQLAlchemy URL. ``directory``: where the data of images is kept.

    ``most_bytes``: greatest image. ``reserve_bytes``: disk space uploads must leave free.
    ``idle_seconds``: how long an upload may send nothing. ``list_limit``: most images in one page,
    ``list_default`` how many without a limit. ``match_format``: refuse data that is not of the
    declared disk format. ``public_url``: what links start with instead of the Host header.
    """

    database: str
    directory: Path
    most_bytes: int = 1 << 40
    reserve_bytes: int = 256 << 20
    idle_seconds: float = 120.0
    list_limit: int = 1000
    list_default: int = 25
    most_properties: int = 128
    most_tags: int = 128
    most_members: int = 128
    match_format: bool = True
    public_url: str | None = None
    auth_uri: str | None = None
    trust_forwarded: bool = False
