"""Every console script of the package leads to a function."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("name", sorted(PROJECT["scripts"]))
def test_a_script_leads_somewhere(name: str) -> None:
    module, _, function = PROJECT["scripts"][name].partition(":")
    assert module == f"kilonova.cmd.{name.replace('-', '_')}"
    assert callable(getattr(importlib.import_module(module), function))
