"""How a section is declared: one Struct field per option, its help and limits in an ``Opt``."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:  # takes long to import, and a cloud of one process needs none of it
    from oslo_config import cfg


class Opt(msgspec.Struct, frozen=True):
    """What oslo.config must know of an option beside its type and default.

    ``multi``: each mention in a file adds a value, which may hold commas. ``formerly`` lists
    deprecated spellings as ``(group, name)``; ``name`` is needed only where the
    option's name is no Python identifier.
    """

    help: str
    name: str = ""
    choices: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None
    mutable: bool = False
    secret: bool = False
    multi: bool = False
    formerly: tuple[tuple[str, str], ...] = ()


def options(section: type[msgspec.Struct]) -> list[cfg.Opt]:
    """The oslo.config options of a section, one per field of the Struct."""
    hints = _hints(section)
    made = []
    for field in msgspec.structs.fields(section):
        kind, meta = _unwrap(hints[field.name])
        default = field.default
        if default is msgspec.NODEFAULT:
            default = (
                field.default_factory() if field.default_factory is not msgspec.NODEFAULT else None
            )
        made.append(_option(field.name, kind, meta, default))
    return made


def freeze(section: type[msgspec.Struct], group: Any) -> Any:
    """An instance of the section's Struct with the values of a parsed oslo.config group."""
    hints = _hints(section)
    values = {}
    for field in msgspec.structs.fields(section):
        kind, meta = _unwrap(hints[field.name])
        value = getattr(group, (meta.name or field.name).replace("-", "_"))
        if _origin(kind) is tuple and value is not None:
            value = tuple(value)
        elif _origin(kind) is dict and value is not None:
            value = dict(value)
        values[field.name] = value
    return section(**values)


def mutable(section: type[msgspec.Struct]) -> frozenset[str]:
    """The fields a running service takes anew when its configuration is read again."""
    hints = _hints(section)
    return frozenset(name for name, hint in hints.items() if _unwrap(hint)[1].mutable)


@functools.cache
def _hints(section: type[msgspec.Struct]) -> Mapping[str, Any]:
    return typing.get_type_hints(section, include_extras=True)


def _unwrap(hint: Any) -> tuple[Any, Opt]:
    meta = Opt(help="")
    if typing.get_origin(hint) is typing.Annotated:
        hint, *extras = typing.get_args(hint)
        meta = next((x for x in extras if isinstance(x, Opt)), meta)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = (x for x in typing.get_args(hint) if x is not type(None))
    return hint, meta


def _origin(kind: Any) -> Any:
    return typing.get_origin(kind) or kind


def _option(name: str, kind: Any, meta: Opt, default: Any) -> cfg.Opt:
    from oslo_config import cfg  # noqa: PLC0415 (see above)

    common: dict[str, Any] = {
        "default": default,
        "help": meta.help,
        "secret": meta.secret,
        "mutable": meta.mutable,
        "deprecated_opts": [cfg.DeprecatedOpt(old, group=group) for group, old in meta.formerly],
    }
    spelled = meta.name or name
    origin = _origin(kind)
    if origin is bool:
        return cfg.BoolOpt(spelled, **common)
    if origin is int:
        return cfg.IntOpt(spelled, min=meta.min, max=meta.max, **common)
    if origin is float:
        return cfg.FloatOpt(spelled, min=meta.min, max=meta.max, **common)
    if origin is tuple:
        common["default"] = list(default or ())
        item = cfg.types.Integer() if typing.get_args(kind)[0] is int else None
        return (
            cfg.MultiStrOpt(spelled, **common)
            if meta.multi
            else cfg.ListOpt(spelled, item_type=item, **common)
        )
    if origin is dict:
        return cfg.DictOpt(spelled, **common)
    return cfg.StrOpt(spelled, choices=list(meta.choices) or None, **common)
