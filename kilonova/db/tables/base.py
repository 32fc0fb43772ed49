"""How constraints and indexes are named, so that migrations can find them on every engine."""

from __future__ import annotations

import sqlalchemy as sa

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


def metadata_with_names() -> sa.MetaData:
    """An empty MetaData with these names."""
    return sa.MetaData(naming_convention=NAMES)
