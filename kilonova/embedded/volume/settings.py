"""What the block storage service can be told."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Settings(msgspec.Struct, frozen=True):
    """``database``: SQLAlchemy URL. ``directory``: where the data of volumes is kept.

    ``host`` and ``zone`` name the one back end. ``quota_*``: limits of a project that has none of
    its own (-1: none). ``most_gib``: greatest volume. ``reserve_bytes``: disk space that downloads
    must leave free. ``jobs``: how many copies run at once. ``export_address`` and ``export_port``:
    where hosts other than ``host`` reach volumes (None: by their path, in a directory they share).
    """

    database: str
    directory: Path
    host: str = "localhost"
    zone: str = "nova"
    backend: str = "files"
    quota_volumes: int = 100
    quota_snapshots: int = 100
    quota_gigabytes: int = 10000
    quota_per_volume: int = -1
    most_gib: int = 64 * 1024
    reserve_bytes: int = 256 << 20
    list_limit: int = 1000
    jobs: int = 2
    export_address: str | None = None
    export_port: int = 10809
    export_tls: bool = True
    public_url: str | None = None
    auth_uri: str | None = None
    trust_forwarded: bool = False
