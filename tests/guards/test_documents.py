"""Documents speak of what is there: links, scripts, commands, options, generated pages."""

from __future__ import annotations

import importlib.util
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from kilonova.cmd.program import app
from tests.guards import source

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
WEB = ("http://", "https://", "mailto:")
SCRIPTS = set(source.project()["project"]["scripts"])
OURS = re.compile(r"^(?:nova|placement|kilonova)(?:-[a-z0-9]+)*$")


def documents() -> list[Path]:
    """Every Markdown file."""
    return [path for path in source.files() if path.suffix == ".md"]


@pytest.mark.parametrize("path", documents(), ids=source.name)
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        if target.startswith(WEB):
            continue
        place, _, anchor = target.partition("#")
        file = (path.parent / place).resolve() if place else path
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("path", documents(), ids=source.name)
def test_commands_exist(path: Path) -> None:
    """In blocks of code: our scripts, our commands, and the options of ``kilonova``."""
    wrong = []
    for line in _commands(path.read_text(encoding="utf-8")):
        words = line.split()
        program = words[0].removeprefix(".venv/bin/")
        if not _is_there(program) or (program == "kilonova" and not _is_understood(words[1:])):
            wrong.append(line)
    assert not wrong


def test_generated_pages_are_fresh() -> None:
    stale = [
        name
        for name, make in _generator().PAGES.items()
        if make() != (source.ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    ]
    assert not stale, f"run ./scripts/docs: {stale}"


def test_every_page_is_reached() -> None:
    """Each page under docs/ is linked from another one."""
    linked = {
        (path.parent / target.partition("#")[0]).resolve()
        for path in documents()
        for target in LINK.findall(path.read_text(encoding="utf-8"))
        if not target.startswith(WEB)
    }
    docs = source.ROOT / "docs"
    lost = [source.name(path) for path in docs.rglob("*.md") if path not in linked]
    assert not lost


def test_every_library_has_its_reason() -> None:
    """docs/decisions/libraries.md names each dependency of pyproject.toml."""
    project = source.project()["project"]
    text = (source.ROOT / "docs" / "decisions" / "libraries.md").read_text(encoding="utf-8").lower()
    wanted = [*project["dependencies"]]
    wanted += [one for group in project["optional-dependencies"].values() for one in group]
    names = {re.split(r"[\[<>=]", one)[0].lower() for one in wanted}
    missing = sorted(name for name in names if f"`{name}`" not in text)
    assert not missing


def _commands(text: str) -> Iterator[str]:
    """Lines of code that begin with a command, prompts and variables before it taken away."""
    fenced: list[str] = FENCE.findall(text)
    indented = re.findall(r"^    (?=\S)(.*)$", FENCE.sub("", text), re.MULTILINE)
    for line in [one.strip() for block in fenced for one in block.splitlines()] + indented:
        for part in re.split(r"\s(?:&&|\|\|?|;)\s", line):
            clean = re.sub(r"^\$ |\s#.*$", "", part.strip())
            clean = re.sub(r"^(?:sudo |[A-Z_]+=\S+ )+", "", clean)
            if clean:
                yield clean


def _is_there(program: str) -> bool:
    if "scripts/" in program:
        return (source.ROOT / program).is_file()
    return not OURS.match(program) or program in SCRIPTS


def _is_understood(words: list[str]) -> bool:
    """Whether the command line's command and options are there (values are not looked at)."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        names = words[0].split("|")
        if any(name not in command.commands for name in names):
            return False
        command, words = command.commands[names[0]], words[1:]
    known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
    given = {word.strip("[]").partition("=")[0] for word in words if "--" in word}
    return given <= known


def _anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def _generator() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("generate", source.ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
