"""ImagePropertiesFilter: architecture, hypervisor type and version, vm mode of the image."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Env, host_filter
from kilonova.scheduler.state import HostState

_ALIASES = {
    "amd64": "x86_64",
    "x86-64": "x86_64",
    "i386": "i686",
    "i486": "i686",
    "i586": "i686",
    "x86": "i686",
    "x86_32": "i686",
    "arm64": "aarch64",
    "powerpc": "ppc",
    "powerpc64": "ppc64",
    "baremetal": "baremetal",
    "xapi": "xen",
    "pv": "xen",
    "hv": "hvm",
}
_COMPARE: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
    "": operator.eq,
}


def _names_any(request: RequestSpec, env: Env) -> bool:
    return bool(request.properties or env.options.image_properties_default_architecture)


@host_filter("ImagePropertiesFilter", on_rebuild=True, concerns=_names_any)
def check(host: HostState, request: RequestSpec, env: Env) -> str | None:
    """One of the host's (architecture, hypervisor type, vm mode) must be what the image names."""
    have = request.properties
    wanted = (
        have.get("hw_architecture")
        or have.get("architecture")
        or env.options.image_properties_default_architecture,
        have.get("img_hv_type") or have.get("hypervisor_type"),
        have.get("hw_vm_mode") or have.get("vm_mode"),
    )
    if any(wanted) and not any(_fits(wanted, offered) for offered in host.supported):
        named = ", ".join(word for word in wanted if word)
        return f"it does not run images for {named}"
    version = have.get("img_hv_requested_version") or have.get("hypervisor_version_requires")
    if version and not _version_fits(host.hypervisor_version, version):
        return f"its hypervisor's version is {host.hypervisor_version}, not {version}"
    return None


def _fits(wanted: tuple[str | None, ...], offered: tuple[str, ...]) -> bool:
    return all(
        not word or _plain(word) == _plain(offer)
        for word, offer in zip(wanted, offered, strict=True)
    )


def _plain(word: str) -> str:
    word = word.strip().lower()
    return _ALIASES.get(word, word)


def _version_fits(number: int, wanted: str) -> bool:
    """``number`` is major·10⁶ + minor·10³ + micro; ``wanted`` is like ``>=6.0,<9``."""
    have = (number // 1_000_000, number // 1000 % 1000, number % 1000)
    for part in wanted.split(","):
        found = re.fullmatch(r"\s*([<>=!]*)\s*(\d+(?:\.\d+){0,2})\s*", part)
        if found is None or found[1] not in _COMPARE:
            return False
        asked = [int(digit) for digit in found[2].split(".")]
        asked += [0] * (3 - len(asked))
        if not _COMPARE[found[1]](have, tuple(asked)):
            return False
    return True
