from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kilonova.base.errors import Unavailable
from kilonova.virt.libvirt import access, xml


def capabilities(label: str) -> xml.Element:
    return xml.read(
        "<capabilities><host><secmodel><model>apparmor</model></secmodel>"
        f"<secmodel><model>dac</model><baselabel type='kvm'>{label}</baselabel></secmodel>"
        "</host></capabilities>"
    )


def test_who_runs_the_guests() -> None:
    assert access.user(capabilities("+64055:+106")) == (64055, 106)
    assert access.user(capabilities("strange")) is None
    assert access.user(xml.read("<capabilities><host/></capabilities>")) is None


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory everybody may enter, in one that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


def test_a_closed_directory_is_told(open_place: Path) -> None:
    closed = open_place / "closed"
    (closed / "instances").mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(Unavailable, match=f"may not enter {closed}: set"):
        access.check(capabilities("+64055:+64055"), closed / "instances")
    closed.chmod(0o711)
    access.check(capabilities("+64055:+64055"), closed / "instances")


def test_root_may_enter_everything(tmp_path: Path) -> None:
    tmp_path.chmod(0o000)
    access.check(capabilities("+0:+0"), tmp_path)
    tmp_path.chmod(0o700)
