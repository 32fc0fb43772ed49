"""Entry points are found without the whole inventory of installed packages."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from kilonova.base import plugins


def package(folder: Path, name: str, text: str) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(text)


def test_points_are_those_of_the_standard_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    package(first, "one", "[kilonova.virt]\nmine = json:loads\n[other]\nx = json:dumps\n")
    package(second, "two", "[kilonova.virt]\nmine = json:dumps\nyours = json:dump\n")
    package(second, "three", "[console_scripts]\nkilonova.virt = json:dump\n")
    (second / "four-1.0.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(first), str(second), str(tmp_path / "missing")])
    found = {point.name: point.value for point in plugins.points("kilonova.virt")}
    assert found == {"mine": "json:loads", "yours": "json:dump"}
    library = entry_points(group="kilonova.virt")
    assert set(found) == {point.name for point in library}
    assert plugins.points("kilonova.filters") == []
