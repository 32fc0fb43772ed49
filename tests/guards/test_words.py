"""Words that have no place in the repository."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.guards import source

HERE = Path(__file__)

# Taken apart, so that this file may be read by its own rules.
EVERYWHERE = {
    "unfinished work": r"\bTO" r"DO\b|Not" r"ImplementedError|\bbreak" r"point\(\)|\bpdb\.set_",
    "a package registry": r"py" r"pi\.org|python" r"hosted|npm" r"js\.|artifact" r"ory",
    "a developer's directory": r"(?<![\w.])/wo"
    r"rk\b|/home/(?!\w+/\.|user\b)\w+/\w+|\.py"
    r"env\b",
    "an issue's number": r"\bissue" r" #?\d",
    "an author's name": r"__auth" r"or__",
}
OWN_HOME = re.compile(r"(?<![\w.])/ro" r"ot\b")


def test_no_forbidden_words() -> None:
    found = []
    for path in source.files():
        if path == HERE:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for what, pattern in EVERYWHERE.items():
            found += [
                f"{source.name(path)}: {what}: {hit[0]}" for hit in re.finditer(pattern, text)
            ]
    assert not found, "\n".join(found)


def test_no_superuser_home() -> None:
    """Only guests, and the tests that log into them, may speak of the superuser's home."""
    found = [
        source.name(path)
        for path in source.files()
        if "tests" not in path.parts and "guestimage" not in path.parts
        if OWN_HOME.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not found


def test_only_commands_print() -> None:
    """Commands, and the services they are made of, speak to people; all else logs."""
    found = [
        f"{source.name(path)}:{node.lineno}"
        for path in source.modules()
        if not {"cmd", "services"} & set(path.parts) and path.name != "__main__.py"
        for node in ast.walk(source.tree(path))
        if isinstance(node, ast.Call)
        if isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not found, f"use logging: {found}"
