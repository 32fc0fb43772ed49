"""clouds.yaml is written when it is not as it should be, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kilonova.services import clouds
from kilonova.services.layout import Layout, Secrets, ports

SECRETS = Secrets("admin's", "demo's", "services'", "metadata's")


def test_it_is_written_once_and_again_when_somebody_changed_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path, ports(20000))
    file = clouds.write(layout, SECRETS)
    text = file.read_text()
    assert yaml.safe_load(text)["clouds"] == clouds.entries(layout, SECRETS)
    written = file.stat().st_ino
    clouds.write(layout, SECRETS)
    assert file.stat().st_ino == written
    file.write_text("{}")
    assert clouds.write(layout, SECRETS).read_text() == text
    clouds.write(Layout(tmp_path, ports(21000)), SECRETS)
    assert ":21000/v3" in file.read_text()


def test_the_persons_own_file_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    layout = Layout(tmp_path, ports(None))
    file = tmp_path / "openstack" / "clouds.yaml"
    file.parent.mkdir()
    file.write_text("clouds: {mine: {region_name: x}}\n")
    assert clouds.merge(layout, SECRETS) == file
    merged = yaml.safe_load(file.read_text())["clouds"]
    assert merged == {"mine": {"region_name": "x"}, **clouds.entries(layout, SECRETS)}
    del merged["kilonova"]
    file.write_text(yaml.safe_dump({"clouds": merged}))
    assert clouds.merge(layout, SECRETS) == file
    assert "kilonova" in yaml.safe_load(file.read_text())["clouds"]
    written = file.stat().st_ino
    assert clouds.merge(layout, SECRETS) == file
    assert file.stat().st_ino == written


def test_a_file_that_is_no_yaml_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "openstack" / "clouds.yaml"
    file.parent.mkdir()
    file.write_text("{{{")
    assert clouds.merge(Layout(tmp_path, ports(None)), SECRETS) is None
    assert file.read_text() == "{{{"
