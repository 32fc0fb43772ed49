"""A bounded memory of results in layers, for results that never go stale."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Layers(Generic[K, V]):
    """Key → value under a scope. A scope that grew too large is emptied, an old one forgotten."""

    def __init__(self, *, scopes: int = 16, size: int = 4096) -> None:
        self._scopes = scopes
        self._size = size
        self._layers: OrderedDict[Hashable, dict[K, V]] = OrderedDict()

    def layer(self, scope: Hashable) -> dict[K, V]:
        """The results of one scope, to be read and added to."""
        found = self._layers.get(scope)
        if found is None:
            found = self._layers[scope] = {}
            if len(self._layers) > self._scopes:
                self._layers.popitem(last=False)
        else:
            self._layers.move_to_end(scope)
            if len(found) > self._size:
                found.clear()
        return found
