"""Free TCP ports of this host, the same again for the same guest where that can be."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Collection

from kilonova.base.errors import Unavailable


def choose(
    key: str, span: str, taken: Collection[int], wish: int = 0, *, address: str = "127.0.0.1"
) -> int:
    """A free port of ``address``: the wished one if it is free, else one made from ``key``.

    ``span`` is ``first:last``. Raises Unavailable when all are taken.
    """
    first, last = (int(word) for word in span.split(":"))
    size = last - first + 1
    start = zlib.crc32(key.encode())
    for candidate in (wish, *(first + (start + n) % size for n in range(size))):
        if candidate and candidate not in taken and _free(address, candidate):
            return candidate
    raise Unavailable(f"Every port of {span} on this host is taken.")


def _free(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
