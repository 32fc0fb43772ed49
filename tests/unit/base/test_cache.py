"""Layers are bounded in number and size."""

from __future__ import annotations

from kilonova.base.cache import Layers


def test_layers() -> None:
    memory: Layers[int, str] = Layers(scopes=2, size=2)
    first = memory.layer("a")
    first[1] = "x"
    assert memory.layer("a") is first
    memory.layer("b")
    memory.layer("a")
    memory.layer("c")
    assert memory.layer("a") is first
    assert memory.layer("b") == {}
    for number in range(3):
        memory.layer("b")[number] = "y"
    assert memory.layer("b") == {}
