"""A bounded memory in layers."""

from __future__ import annotations

from kilonova.base.cache import Layers


def test_a_scope_keeps_what_was_added() -> None:
    layers: Layers[str, int] = Layers()
    layers.layer("a")["x"] = 1
    assert layers.layer("a") == {"x": 1}
    assert layers.layer("b") == {}


def test_the_scope_used_longest_ago_is_forgotten() -> None:
    layers: Layers[str, int] = Layers(scopes=2)
    layers.layer("a")["x"] = 1
    layers.layer("b")["x"] = 2
    layers.layer("a")
    layers.layer("c")
    assert layers.layer("a") == {"x": 1}
    assert layers.layer("b") == {}


def test_a_scope_that_grew_too_large_is_emptied() -> None:
    layers: Layers[int, int] = Layers(size=2)
    layers.layer("a").update({1: 1, 2: 2})
    assert len(layers.layer("a")) == 2
    layers.layer("a")[3] = 3
    assert layers.layer("a") == {}
