"""What the quick way understands is what the whole program would have."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import typer.main

from kilonova.cmd import kilonova, program

WHOLE = typer.main.get_command(program.app)


@pytest.mark.parametrize("command", kilonova.OPTIONS)
def test_options_and_defaults_are_the_same(command: str) -> None:
    params = WHOLE.commands[command].params  # type: ignore[attr-defined]
    flags = {flag: param for param in params for flag in (*param.opts, *param.secondary_opts)}
    ours = kilonova.OPTIONS[command]
    assert set(ours) == set(flags) - {"--help"}
    defaults = inspect.signature(kilonova.COMMANDS[command]).parameters
    for flag, (name, kind) in ours.items():
        assert flags[flag].name == name
        assert flags[flag].default == defaults[name].default
        assert bool(getattr(flags[flag], "is_flag", False)) == isinstance(kind, bool)
        if isinstance(kind, bool):
            assert kind == (flag in flags[flag].opts)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("status", ("status", {})),
        ("status --json", ("status", {"json": True})),
        ("down --guests --state-dir=/x", ("down", {"guests": True, "state_dir": Path("/x")})),
        (
            "up --driver fake --hosts 3 --port-base 18000 --no-demo --detach",
            (
                "up",
                {"driver": "fake", "hosts": 3, "port_base": 18000, "demo": False, "detach": True},
            ),
        ),
        ("up --hosts 2 --hosts 4", ("up", {"hosts": 4})),
        # Everything else is for the whole program, which has the words to say what is wrong.
        ("", None),
        ("--help", None),
        ("saga list", None),
        ("status --help", None),
        ("status --yaml", None),
        ("status extra", None),
        ("status --json=yes", None),
        ("up --hosts", None),
        ("up --hosts many", None),
        ("up --hosts 0", None),
        ("up --hosts 20001", None),
        ("up --port-base -1", None),
        ("up --state-dir --detach", None),
        ("up --state-dir=", None),
    ],
)
def test_what_is_understood(text: str, wanted: object) -> None:
    assert kilonova.parse(text.split()) == wanted
