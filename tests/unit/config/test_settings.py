from __future__ import annotations

from pathlib import Path

import pytest
from oslo_config import cfg

from kilonova.config import settings


def test_files_are_read_and_later_ones_win(tmp_path: Path) -> None:
    one, two = tmp_path / "one.conf", tmp_path / "two.conf"
    one.write_text("[DEFAULT]\nhost = a\n[database]\nconnection = sqlite:///x\nmax_pool_size=3\n")
    two.write_text("[DEFAULT]\nhost = b\n")
    read = settings.load([one, two])
    assert (read.default.host, read.database.max_pool_size) == ("b", 3)
    assert read.database.connection == "sqlite:///x"


def test_overrides_win_over_files() -> None:
    assert settings.load(overrides={"default": {"host": "c"}}).default.host == "c"


def test_a_bad_value_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.conf"
    file.write_text("[database]\nmax_pool_size = none\n")
    with pytest.raises(cfg.ConfigFileValueError, match="max_pool_size"):
        settings.load([file])
