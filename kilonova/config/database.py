"""``[api_database]``, ``[database]``, ``[placement_database]``: where the rows are."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class Database(msgspec.Struct, frozen=True):
    """``[database]``: the cell's own database."""

    connection: Annotated[str | None, Opt("SQLAlchemy URL.", secret=True)] = None
    max_pool_size: Annotated[int, Opt("Connections, and threads, kept at most.", min=1)] = 5
    max_retries: Annotated[int, Opt("Tries to run a transaction that met a conflict.")] = 10
    connection_recycle_time: Annotated[int, Opt("Seconds after which a connection is renewed.")] = (
        3600
    )


class ApiDatabase(Database, frozen=True):
    """``[api_database]``: what all cells share."""


class PlacementDatabase(Database, frozen=True):
    """``[placement_database]``: the Placement service's own."""

    sync_on_startup: Annotated[
        bool, Opt("Let placement-api bring the schema to the newest version when it starts.")
    ] = False
