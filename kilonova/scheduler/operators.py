"""The little language of extra spec values: ``>= 4``, ``<in> x``, ``<or> a <or> b``."""

from __future__ import annotations

import operator
from collections.abc import Callable

_NUMBERS: dict[str, Callable[[float, float], bool]] = {
    "=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
}
_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "s==": operator.eq,
    "s!=": operator.ne,
    "s>=": operator.ge,
    "s>": operator.gt,
    "s<=": operator.le,
    "s<": operator.lt,
}


def match(value: object, wanted: str) -> bool:
    """Whether ``value`` is what the requirement asks; ``=`` means at least, no operator means the
    same text. A number operator on something that is no number is not met."""
    first, *rest = wanted.split() or [wanted]
    if first in _NUMBERS and rest:
        try:
            return _NUMBERS[first](float(str(value)), float(rest[0]))
        except ValueError:
            return False
    if first in _TEXTS and rest:
        return _TEXTS[first](str(value), rest[0])
    words = [word for word in rest if word != first]
    if first in _SETS and words:
        return _SETS[first](value, words)
    return str(value) == wanted


def _listed(value: object) -> list[str] | str:
    if isinstance(value, list | tuple | set | frozenset):
        return [str(item) for item in value]
    return str(value)


_SETS: dict[str, Callable[[object, list[str]], bool]] = {
    "<in>": lambda value, words: words[0] in _listed(value),
    "<all-in>": lambda value, words: all(word in _listed(value) for word in words),
    "<or>": lambda value, words: str(value) in words,
}
