"""A module beyond 600 lines, or a function beyond 60, holds two things."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.guards import source

MODULE_LINES = 600
FUNCTION_LINES = 60


def test_modules_are_short() -> None:
    found = {
        source.name(path)
        for path in source.modules()
        if len(path.read_text(encoding="utf-8").splitlines()) > MODULE_LINES
    }
    source.settle("long_modules", found, f"longer than {MODULE_LINES} lines, part them")


def test_functions_are_short() -> None:
    found = {
        f"{source.name(path)}:{piece.name}"
        for path in source.modules()
        if not _is_revision(path)
        for piece in source.pieces(path)
        if not isinstance(piece.node, ast.ClassDef) and _lines(piece.node) > FUNCTION_LINES
    }
    source.settle("long_functions", found, f"longer than {FUNCTION_LINES} lines, part them")


def _is_revision(path: Path) -> bool:
    """Alembic's revisions list tables; a list may be long."""
    return path.parent.name == "versions"


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the last."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
