"""Every module, function and file the tour names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.guards import source

TOUR = source.ROOT / "docs" / "tour.md"
CODE = re.compile(r"`([^`\n]+)`")
PLACE = re.compile(r"((?:kilonova|tests|docs|scripts|benchmarks)/[\w./*-]*)(?::([\w.]+))?")
LEAST = 60


def test_all_that_is_named_exists() -> None:
    """Backticked ``path/to/module.py:name``, ``path:Class.method``, directories and files."""
    text = re.sub(r"^```.*?^```", "", TOUR.read_text(encoding="utf-8"), flags=re.M | re.S)
    named = [m for word in CODE.findall(text) if (m := PLACE.fullmatch(word)) is not None]
    missing = [m[0] for m in named if not _exists(m[1], m[2])]
    assert not missing
    assert len(named) >= LEAST, "the tour names hardly anything; has the way to write it changed?"


def test_all_packages_are_shown() -> None:
    """A new top-level package appears in the tour."""
    text = TOUR.read_text(encoding="utf-8")
    packages = {p.parent.name for p in source.PACKAGE.glob("*/__init__.py")}
    assert {name for name in packages if f"`kilonova/{name}/`" not in text} == set()


def _exists(place: str, name: str | None) -> bool:
    path = source.ROOT / place
    if name is None:
        return any(source.ROOT.glob(place)) if "*" in place else path.exists()
    return path.is_file() and name in _names(path)


def _names(path: Path) -> set[str]:
    """Functions, classes, methods and module-level names."""
    found = {piece.name for piece in source.pieces(path)}
    for node in source.tree(path).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found
