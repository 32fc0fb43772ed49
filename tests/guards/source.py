"""The repository's own files, and the lists of what is let pass for now."""

from __future__ import annotations

import ast
import functools
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kilonova"
PLACES = ("kilonova", "tests", "docs", "scripts", "benchmarks", ".ci")
LOOSE = ("*.md", "*.toml", "*.lock", ".gitignore")


class Piece(msgspec.Struct, frozen=True):
    """A function, method or class: ``name`` is dotted, ``public`` when no part is private."""

    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    public: bool
    owner: ast.ClassDef | None

    @property
    def is_class(self) -> bool:
        return isinstance(self.node, ast.ClassDef)


def files() -> Iterator[Path]:
    """Every text file of the repository."""
    for pattern in LOOSE:
        yield from sorted(ROOT.glob(pattern))
    for place in PLACES:
        for path in sorted((ROOT / place).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and _is_text(path):
                yield path


def modules() -> Iterator[Path]:
    """Every module of the package."""
    yield from sorted(PACKAGE.rglob("*.py"))


def name(path: Path) -> str:
    """The path as it is written in lists: from the root, with slashes."""
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree(path: Path) -> ast.Module:
    """The parsed module."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def pieces(path: Path) -> tuple[Piece, ...]:
    """The functions, methods and classes of a module, those inside functions too."""
    return tuple(_pieces(tree(path), "", owner=None, public=True))


def _pieces(
    node: ast.AST, prefix: str, *, owner: ast.ClassDef | None, public: bool
) -> Iterator[Piece]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            open_ = public and (not child.name.startswith("_"))
            yield Piece(prefix + child.name, child, open_, owner)
            is_class = isinstance(child, ast.ClassDef)
            yield from _pieces(
                child,
                f"{prefix}{child.name}.",
                owner=child if isinstance(child, ast.ClassDef) else None,
                public=open_ and is_class,
            )
        elif not isinstance(child, ast.expr):
            yield from _pieces(child, prefix, owner=owner, public=public)


def project() -> dict[str, Any]:
    """``pyproject.toml``."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def allowed(what: str) -> set[str]:
    """What ``allowed.toml`` lets pass; lists only ever get shorter."""
    lists = tomllib.loads((Path(__file__).parent / "allowed.toml").read_text(encoding="utf-8"))
    return set(lists[what])


def settle(what: str, found: set[str], advice: str) -> None:
    """Fail for what was found and is not allowed, and for what is allowed and no longer there."""
    known = allowed(what)
    fresh = sorted(found - known)
    assert not fresh, f"{advice}: " + "; ".join(fresh)
    gone = sorted(known - found)
    assert not gone, f"take out of {what} in tests/guards/allowed.toml: " + "; ".join(gone)


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        return b"\0" not in file.read(4096)
