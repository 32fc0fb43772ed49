"""Take tracked connections back when a floating address leaves the guest it stood for.

Address translation is decided by a connection's first packet: without this, whoever is connected by
a floating address would stay with its old owner for as long as packets flow.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from kilonova.embedded.network.plane.env import PlaneError

_PAIR = re.compile(r"(\d+(?:\.\d+){3}) : (\d+(?:\.\d+){3})")
_GONE = 2  # ENOENT: it ended in between.


@cache
def _library() -> Any:
    return importlib.import_module("pyroute2.netlink.nfnetlink.nfctsocket")


def pairs(chain: str) -> set[tuple[str, str]]:
    """(floating, fixed) of the address map in a listed chain."""
    return {(match[1], match[2]) for match in _PAIR.finditer(chain)}


def forget(translations: Iterable[tuple[str, str]]) -> int:
    """End the connections of (floating, fixed) pairs in this thread's namespace; how many."""
    library = _library()
    ended = 0
    try:
        with library.NFCTSocket() as tracker:
            for floating, fixed in translations:
                for chosen in ({"daddr": floating}, {"saddr": fixed}):
                    # The kernel filters (since 5.8); an older one answers with everything.
                    for message in list(tracker.dump(tuple_orig=library.NFCTAttrTuple(**chosen))):
                        ended += _forget(tracker, message, floating, fixed)
    except importlib.import_module("pyroute2").NetlinkError as error:
        raise PlaneError(f"connections of floating addresses stay: {error}") from error
    return ended


def _forget(tracker: Any, message: Any, floating: str, fixed: str) -> bool:
    library = _library()
    there = library.NFCTAttrTuple.from_netlink(2, message.get_attr("CTA_TUPLE_ORIG"))
    back = library.NFCTAttrTuple.from_netlink(2, message.get_attr("CTA_TUPLE_REPLY"))
    if there.daddr != floating and (there.saddr != fixed or back.daddr != floating):
        return False
    try:
        tracker.entry("del", tuple_orig=there)
    except Exception as error:
        if getattr(error, "code", None) != _GONE:
            raise
        return False
    return True
