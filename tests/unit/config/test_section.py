"""Sections declared as Structs become options of oslo.config, and Structs again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from oslo_config import cfg

from kilonova.config import section
from kilonova.config.section import Opt


class Some(msgspec.Struct, frozen=True):
    """One option of every kind."""

    word: Annotated[str, Opt("A word.", choices=("a", "b"))] = "a"
    number: Annotated[int, Opt("A number.", min=1, formerly=(("old", "count"),))] = 1
    share: Annotated[float | None, Opt("A share.", max=2)] = None
    switch: Annotated[bool, Opt("A switch.")] = False
    words: Annotated[tuple[str, ...], Opt("Words.")] = ("x",)
    pairs: Annotated[dict[str, str], Opt("Pairs.")] = {}
    odd: Annotated[str | None, Opt("Odd name.", name="odd-name", secret=True)] = None


def read(tmp_path: Path, text: str) -> Some:
    file = tmp_path / "some.conf"
    file.write_text(text)
    conf = cfg.ConfigOpts()
    conf.register_opts(section.options(Some), group="some")
    conf(args=[], default_config_files=[str(file)])
    made: Some = section.freeze(Some, conf.some)
    return made


def test_defaults_are_those_of_the_struct(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Some()


def test_values_of_every_kind(tmp_path: Path) -> None:
    text = "[some]\nword=b\nnumber=3\nshare=1.5\nswitch=yes\nwords=p,q\npairs=k:v\nodd_name=o\n"
    assert read(tmp_path, text) == Some("b", 3, 1.5, True, ("p", "q"), {"k": "v"}, "o")


def test_an_older_spelling_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, "[old]\ncount=7\n").number == 7


@pytest.mark.parametrize("line", ["word=c", "number=0", "share=3", "switch=perhaps"])
def test_what_does_not_fit_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises((cfg.ConfigFileValueError, ValueError)):
        read(tmp_path, f"[some]\n{line}\n")
