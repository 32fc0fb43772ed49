"""Overlays we write ourselves are what QEMU's own tool would have made."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kilonova.base import programs
from kilonova.virt import qcow2

MIB = 1 << 20
pytestmark = pytest.mark.skipif(programs.find("qemu-img") is None, reason="needs qemu-utils")


def qemu_img(*words: str) -> Any:
    done = subprocess.run(
        ["qemu-img", words[0], "--output=json", *words[1:]], capture_output=True, check=True
    )
    return json.loads(done.stdout)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    file = tmp_path / "base"
    file.write_bytes(b"\x5a" * MIB + bytes(MIB))
    return file


@pytest.mark.parametrize("size", [2 * MIB, 1 << 30, 5 << 40, qcow2.LARGEST])
def test_it_is_whole_and_says_what_it_lies_on(tmp_path: Path, base: Path, size: int) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    qcow2.overlay(ours, str(base), "raw", size)
    checked = qemu_img("check", "-f", "qcow2", str(ours))
    assert checked["check-errors"] == 0
    assert "leaks" not in checked and "corruptions" not in checked
    how = ("-q", "-f", "qcow2", "-F", "raw", "-b", str(base), "-u")
    subprocess.run(["qemu-img", "create", *how, str(theirs), str(size)], check=True)
    different = {"filename", "actual-size", "children"}
    seen, expected = (
        {k: v for k, v in qemu_img("info", str(file)).items() if k not in different}
        for file in (ours, theirs)
    )
    assert seen == expected
    assert ours.stat().st_blocks * 512 < MIB


def test_it_shows_the_base_until_it_is_written_to(tmp_path: Path, base: Path) -> None:
    ours = tmp_path / "ours"
    qcow2.overlay(ours, str(base), "raw", 3 * MIB)
    if programs.find("qemu-io") is None:
        pytest.skip("needs qemu-io")

    def io(*commands: str) -> str:
        words = [word for command in commands for word in ("-c", command)]
        done = subprocess.run(
            ["qemu-io", "-f", "qcow2", *words, str(ours)], capture_output=True, check=True
        )
        assert b"failed" not in done.stdout, done.stdout
        return done.stdout.decode()

    io("read -P 0x5a 0 1M", "read -P 0 1M 2M", "write -P 0x11 512k 1M")
    io("read -P 0x5a 0 512k", "read -P 0x11 512k 1M", "read -P 0 1536k 1M")
    assert qemu_img("check", str(ours))["check-errors"] == 0
    assert base.read_bytes() == b"\x5a" * MIB + bytes(MIB)


def test_a_name_that_needs_several_bytes_a_letter(tmp_path: Path, base: Path) -> None:
    named = base.rename(tmp_path / "grundlage-ä")
    qcow2.overlay(tmp_path / "ours", str(named), "raw", MIB)
    assert qemu_img("info", str(tmp_path / "ours"))["backing-filename"] == str(named)


def test_what_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    for base, size in (("x" * 1024, MIB), ("", MIB), ("base", 0), ("base", qcow2.LARGEST + 512)):
        with pytest.raises(ValueError, match="bytes"):
            qcow2.overlay(tmp_path / "none", base, "raw", size)
    assert not (tmp_path / "none").exists()


def test_nothing_is_overwritten(tmp_path: Path, base: Path) -> None:
    with pytest.raises(FileExistsError):
        qcow2.overlay(base, str(base), "raw", MIB)
