"""Column types shared by all tables: instants and JSON of a known type."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

# SQLAlchemy's own types of MySQL would bring every driver of MySQL it knows into each process.


class MediumText(sa.Text):
    """Text of up to 16 MiB, by MySQL's name."""

    cache_ok = True


class LongText(sa.Text):
    """Text of up to 4 GiB, by MySQL's name."""

    cache_ok = True


class MediumBlob(sa.LargeBinary):
    """Bytes, up to 16 MiB, by MySQL's name."""

    cache_ok = True


class ExactString(sa.String):
    """A string that MySQL compares with regard to case, as the other engines do."""

    cache_ok = True


class MicroTime(sa.DateTime):
    """A time with microseconds, which MySQL keeps only when told."""

    cache_ok = True


@compiles(MediumText, "mysql", "mariadb")
def _medium_text(_type: MediumText, _compiler: Any, **_more: Any) -> str:
    return "MEDIUMTEXT"


@compiles(LongText, "mysql", "mariadb")
def _long_text(_type: LongText, _compiler: Any, **_more: Any) -> str:
    return "LONGTEXT"


@compiles(MediumBlob, "mysql", "mariadb")
def _medium_blob(_type: MediumBlob, _compiler: Any, **_more: Any) -> str:
    return "MEDIUMBLOB"


@compiles(ExactString, "mysql", "mariadb")
def _exact_string(kind: ExactString, _compiler: Any, **_more: Any) -> str:
    return f"VARCHAR({kind.length}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"


@compiles(MicroTime, "mysql", "mariadb")
def _micro_time(_type: MicroTime, _compiler: Any, **_more: Any) -> str:
    return "DATETIME(6)"


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


_TEXT = sa.Text().with_variant(MediumText(), "mysql", "mariadb")


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
    return sa.LargeBinary().with_variant(MediumBlob(), "mysql", "mariadb")
