"""Column types shared by all tables: instants and JSON of a known type."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import mysql


class Instant(sa.types.TypeDecorator[dt.datetime]):
    """An aware time in UTC, kept as ISO 8601 text with microseconds.

    Text sorts and compares like the time it means and is the same on every engine; it is read by
    one call of ``datetime.fromisoformat``.
    """

    impl = sa.String(32)
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        """``datetime`` to text."""

        def process(value: dt.datetime | None) -> str | None:
            if value is None:
                return None
            return value.astimezone(dt.UTC).isoformat(timespec="microseconds")

        return process

    def literal_processor(self, dialect: sa.Dialect) -> Any:
        """The same inside quotes."""
        return lambda value: f"'{value.astimezone(dt.UTC).isoformat(timespec='microseconds')}'"

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:
        """Text to ``datetime``."""
        read = dt.datetime.fromisoformat
        return lambda value: None if value is None else read(value)


_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


class Json(sa.types.TypeDecorator[Any]):
    """A value of one msgspec type, kept as JSON text (16 MiB at most)."""

    impl = _TEXT
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind
        self._decode = msgspec.json.Decoder(kind).decode

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        """Value to text."""
        encode = msgspec.json.encode
        return lambda value: None if value is None else encode(value).decode()

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:
        """Text to value."""
        decode = self._decode
        return lambda value: None if value is None else decode(value)


def text() -> sa.types.TypeEngine[str]:
    """Text of up to 16 MiB on every engine."""
    return _TEXT


def blob() -> sa.types.TypeEngine[bytes]:
    """Bytes, up to 16 MiB on every engine."""
    return sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
