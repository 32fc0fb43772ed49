"""The settings of a cloud of one process are those its nova.conf says."""

from __future__ import annotations

from pathlib import Path

import pytest

from kilonova.config.settings import given, in_environment, load
from kilonova.services import layout as layouts
from kilonova.services.all_in_one import Cloud, ini
from kilonova.services.host import Machine
from kilonova.services.lifecycle import Wanted, decoded, encoded
from kilonova.services.progress import Silence


async def cloud(folder: Path) -> Cloud:
    made = Cloud(Wanted(folder, 21000, "fake"), Silence())
    made.secrets = layouts.read_secrets(folder)
    made.machine = Machine("fake-1", ("fake-1",), "fake", "fake.FakeDriver", "none")
    return made


async def test_given_options_mean_what_they_mean_in_the_file(tmp_path: Path) -> None:
    options = (await cloud(tmp_path)).options()
    file = tmp_path / "nova.conf"
    file.write_text(ini(options))
    assert given(options) == load([file])


async def test_the_persons_own_options_win(tmp_path: Path) -> None:
    made = await cloud(tmp_path)
    (tmp_path / "kilonova.conf").write_text("[DEFAULT]\nreport_interval = 3\nmy_ip = 127.0.0.9\n")
    default = made.read_settings().default
    assert (default.report_interval, default.my_ip) == (3, "127.0.0.9")
    assert default.host == "fake-1"


async def test_so_does_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_environment()
    monkeypatch.setenv("OS_DEFAULT__REPORT_INTERVAL", "7")
    assert (await cloud(tmp_path)).read_settings().default.report_interval == 7


def test_an_option_there_is_none_of_is_an_error() -> None:
    with pytest.raises(ValueError, match="hots"):
        given({"DEFAULT": {"hots": "a"}})


def test_a_wish_goes_to_another_process_and_arrives(tmp_path: Path) -> None:
    wanted = Wanted(tmp_path, 21000, "fake", 3, demo=False)
    assert decoded(encoded(wanted)) == wanted
