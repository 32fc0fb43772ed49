"""nova-policy, nova-status, placement-manage and placement-status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kilonova.cmd import (
    nova_manage,
    nova_policy,
    nova_status,
    placement_manage,
    placement_status,
)
from kilonova.db import migrate
from kilonova.placement.service import HISTORY
from kilonova.services.manage.output import table
from tests.unit.services.test_startup import logging_as_before

__all__ = ["logging_as_before"]

START = "os_compute_api:servers:start"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "nova.conf"
    path.write_text(
        f"[DEFAULT]\ntransport_url = rabbit://broker/\n"
        f"[api_database]\nconnection = sqlite:///{tmp_path}/api.db\n"
        f"[database]\nconnection = sqlite:///{tmp_path}/cell.db\n"
        f"[placement_database]\nconnection = sqlite:///{tmp_path}/placement.db\n"
    )
    return path


@pytest.mark.parametrize(
    ("who", "code", "said"),
    [
        (["--os-roles", "reader", "--os-project-id", "p"], 1, "No rules matched or allowed"),
        (["--os-roles", "member", "--os-tenant-id", "p"], 0, START),
        (["--os-roles", "admin"], 0, START),
    ],
)
def test_what_somebody_may(
    file: Path, who: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--config-file", str(file), *who, "policy", "check", "--api-name", START]
    assert nova_policy.main(argv) == code
    assert capsys.readouterr().out == f"{said}\n"


def test_targets(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--config-file", str(file), "--os-roles", "member", "--os-project-id", "p"]
    check = ["policy", "check", "--api-name", START, "--target"]
    assert nova_policy.main([*argv, *check, "project_id=q"]) == 1
    assert nova_policy.main([*argv, *check, "colour=red"]) == 1
    assert "colour=red is no target" in capsys.readouterr().err


def test_an_operators_rules_are_seen(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file.parent / "policy.yaml").write_text(f'"{START}": "role:starter"\n')
    argv = ["--config-file", str(file)]
    assert nova_policy.main([*argv, "list"]) == 0
    assert f'"{START}": "role:starter"' in capsys.readouterr().out
    (file.parent / "policy.yaml").write_text("{")
    assert nova_policy.main([*argv, "list"]) == 1
    assert "policy.yaml cannot be used" in capsys.readouterr().err


def checks(out: str) -> dict[str, int]:
    return {row["check"]: row["result"] for row in json.loads(out)["checks"]}


def test_readiness_of_compute(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--config-file", str(file), "upgrade", "check", "--json"]
    assert nova_status.main(argv) == 2
    found = checks(capsys.readouterr().out)
    assert (found["Database Schemas"], found["Cells v2"], found["Placement API"]) == (2, 2, 2)
    for command in (("api_db", "sync"), ("db", "sync", "--local_cell")):
        assert nova_manage.main(["--config-file", str(file), *command]) == 0
    nova_manage.main(["--config-file", str(file), "cell_v2", "simple_cell_setup"])
    nova_manage.main(["--config-file", str(file), "db", "sync"])
    capsys.readouterr()
    assert nova_status.main(argv) == 2
    found = checks(capsys.readouterr().out)
    assert (found["Database Schemas"], found["Cells v2"], found["Placement API"]) == (0, 1, 2)
    assert found["Policy File JSON to YAML Migration"] == 0
    (file.parent / "policy.json").write_text("{}")
    nova_status.main(argv)
    assert checks(capsys.readouterr().out)["Policy File JSON to YAML Migration"] == 2
    assert nova_status.main(argv[:-1]) == 2
    assert "| Check: Cells v2" in capsys.readouterr().out


def test_the_placement_database(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--config-file", str(file)]
    check = [*argv, "upgrade", "check", "--json"]
    assert placement_status.main(check) == 2
    assert placement_manage.main([*argv, "db", "version"]) == 0
    assert placement_manage.main([*argv, "db", "sync"]) == 0
    assert placement_manage.main([*argv, "db", "version"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["None", migrate.newest(HISTORY)]
    assert placement_status.main(check) == 0
    assert checks(capsys.readouterr().out) == {
        "Missing Root Provider IDs": 0,
        "Incomplete Consumers": 0,
        "Policy File JSON to YAML Migration": 0,
    }
    assert placement_manage.main([*argv, "db", "stamp", "0001"]) == 0
    assert placement_status.main(check) == 2
    assert placement_manage.main([*argv, "db", "stamp", "9999"]) == 1
    assert placement_manage.main([*argv, "db", "stamp", "head"]) == 0
    assert placement_status.main(check) == 0
    assert placement_manage.main([*argv, "db", "online_data_migrations"]) == 0
    assert placement_manage.main([*argv, "db", "online_data_migrations", "--max-count", "0"]) == 127


def test_a_missing_option_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "empty.conf"
    file.write_text("")
    assert placement_manage.main(["--config-file", str(file), "db", "sync"]) == 1
    assert "[placement_database] connection is not set" in capsys.readouterr().err


def test_tables() -> None:
    assert table(("a", "bb"), [("ccc", 1)]) == (
        "+-----+----+\n|  a  | bb |\n+-----+----+\n| ccc | 1  |\n+-----+----+"
    )
