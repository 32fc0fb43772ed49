"""Entry points of installed packages, found by looking only at what names a group of ours."""

from __future__ import annotations

import functools
import sys
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

_OURS = "kilonova."


def points(group: str) -> list[EntryPoint]:
    """The entry points of ``kilonova.…`` groups; of two with one name the first on the path.

    ``importlib.metadata`` reads and parses what every installed package says, which takes a tenth
    of a start; here a file that does not mention a group of ours is not parsed.
    """
    found: dict[str, EntryPoint] = {}
    for place in _places(tuple(sys.path)):
        for point in Distribution.at(place).entry_points.select(group=group):
            found.setdefault(point.name, point)
    return list(found.values())


@functools.cache
def _places(path: tuple[str, ...]) -> list[Path]:
    """The metadata directories that have a section of ours."""
    found = []
    for folder in path:
        try:
            inside = sorted(Path(folder or ".").iterdir())
        except OSError:
            continue
        for place in inside:
            if place.suffix not in (".dist-info", ".egg-info"):
                continue
            try:
                text = (place / "entry_points.txt").read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            if f"[{_OURS}" in text:
                found.append(place)
    return found
