"""What monitors measure of a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from kilonova.compute.monitors import CPU, Monitors, Times, measured, times

STAT = "cpu  {user} 10 20 {idle} 40 5 5 0 0 0\ncpu0 1 1 1 1 1 1 1 0 0 0\nintr 12\n"


def write(proc: Path, *, user: int, idle: int) -> None:
    (proc / "stat").write_text(STAT.format(user=user, idle=idle))
    (proc / "cpuinfo").write_text("processor\t: 0\ncpu MHz\t\t: 2400.125\n")


def test_shares_of_the_time_since_the_last_look(tmp_path: Path) -> None:
    monitors = Monitors([CPU], proc=tmp_path, ticks=100)
    write(tmp_path, user=90, idle=830)
    first = monitors.look()
    assert first["cpu.user.time"] == 1_000_000_000
    assert first["cpu.frequency"] == 2400.125
    assert first["cpu.user.percent"] == 10.0
    write(tmp_path, user=140, idle=980)
    second = monitors.look()
    assert second["cpu.user.percent"] == second["cpu.percent"] == 25.0
    assert (second["cpu.idle.percent"], second["cpu.iowait.percent"]) == (75.0, 0.0)
    assert second["cpu.kernel.time"] == 300_000_000
    assert monitors.look()["cpu.percent"] == 0.0


def test_counters_that_go_back_are_no_time() -> None:
    found = measured(Times(1, 1, 1, 1), Times(9, 9, 9, 9))
    assert {value for name, value in found.items() if name.endswith("percent")} == {0.0}


def test_nothing_is_measured_unasked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, user=1, idle=1)
    assert Monitors([], proc=tmp_path).look() == {}
    assert not caplog.records
    assert Monitors(["cpu.magic"], proc=tmp_path).look() == {}
    assert "cpu.magic" in caplog.text


def test_a_machine_that_does_not_tell(tmp_path: Path) -> None:
    assert Monitors([CPU], proc=tmp_path).look() == {}
    with pytest.raises(ValueError, match="/proc/stat"):
        times("nonsense", 100)
    assert Monitors([CPU]).look()["cpu.idle.time"] > 0
