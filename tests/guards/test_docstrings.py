"""Every module says what it is for, every public function and class what it does."""

from __future__ import annotations

import ast
import functools

from tests.guards import source

SPEAKS_FOR_ITSELF = {"overload", "setter", "override"}


def test_modules_have_docstrings() -> None:
    silent = [
        source.name(path)
        for path in source.modules()
        if not ast.get_docstring(source.tree(path)) and "migrations/versions" not in str(path)
    ]
    assert not silent


def test_public_functions_have_docstrings() -> None:
    """A method whose words stand at a Protocol or base class needs none of its own."""
    found = {
        f"{source.name(path)}:{piece.name}"
        for path in source.modules()
        for piece in source.pieces(path)
        if piece.public and not ast.get_docstring(piece.node) and not _is_told_elsewhere(piece)
    }
    source.settle("undocumented", found, "without a docstring")


def _is_told_elsewhere(piece: source.Piece) -> bool:
    node = piece.node
    marks = {ast.unparse(mark).rpartition(".")[2] for mark in node.decorator_list}
    if marks & SPEAKS_FOR_ITSELF:
        return True
    if piece.owner is None or piece.is_class:
        return False
    is_protocol = any("Protocol" in ast.unparse(base) for base in piece.owner.bases)
    if is_protocol and ast.unparse(node.body[-1]) == "...":
        # An attribute in the clothes of a property.
        return "property" in marks
    return node.name in _promised()


@functools.cache
def _promised() -> frozenset[str]:
    """Methods documented by a Protocol, and those of the standard library's that we override."""
    names = {"format"}
    for path in source.modules():
        for piece in source.pieces(path):
            owner = piece.owner
            if (
                owner is not None
                and ast.get_docstring(piece.node)
                and any("Protocol" in ast.unparse(base) for base in owner.bases)
            ):
                names.add(piece.node.name)
    return frozenset(names)
