"""The pure layers are tested module by module: kilonova/X/Y.py by tests/unit/X/test_Y.py."""

from __future__ import annotations

import ast

from tests.guards import source

PURE = ("base", "domain", "config", "policy")


def test_pure_modules_have_unit_tests() -> None:
    untested = set()
    for layer in PURE:
        for path in sorted((source.PACKAGE / layer).rglob("*.py")):
            if path.name == "__init__.py" or not _does_something(source.tree(path)):
                continue
            inside = path.relative_to(source.PACKAGE)
            test = source.ROOT / "tests" / "unit" / inside.parent / f"test_{inside.name}"
            if not test.exists():
                untested.add(source.name(path))
    source.settle("untested", untested, "without a test module of its own in tests/unit")


def _does_something(module: ast.Module) -> bool:
    """Tables and Structs without functions have nothing to test."""
    return any(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(module))
