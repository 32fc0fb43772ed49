"""Reading image properties: which words they may have, and a clear refusal of the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kilonova.base.errors import BadRequest
from kilonova.domain.guest import GuestSpec

_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
_FALSE = frozenset({"0", "f", "false", "off", "n", "no", ""})

OLD_NAMES = {"architecture": "hw_architecture", "hypervisor_type": "img_hv_type"}


def of(guest: GuestSpec) -> dict[str, str]:
    """The image's properties, changed by what was recorded for this server."""
    image = dict(guest.image.properties) if guest.image is not None else {}
    merged = image | guest.properties
    for old, new in OLD_NAMES.items():
        if old in merged:
            merged.setdefault(new, merged[old])
    return merged


def choice(properties: Mapping[str, str], name: str, known: Collection[str], default: str) -> str:
    """The property's word if it is one of ``known``; BadRequest names those that are possible."""
    word = properties.get(name) or default
    if word not in known:
        raise BadRequest(
            f"The image property {name}={word} is not possible on this hypervisor; "
            f"it offers {', '.join(sorted(known))}."
        )
    return word


def flag(properties: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """A property that is true or false in any of the usual spellings."""
    word = properties.get(name)
    if word is None:
        return default
    if word.lower() in _TRUE:
        return True
    if word.lower() in _FALSE:
        return False
    raise BadRequest(f"The image property {name}={word} must be true or false.")
