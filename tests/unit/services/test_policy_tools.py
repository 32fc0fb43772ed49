"""The tools of oslo.policy find the rules, and what an operator made of them, by entry points."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
START = "os_compute_api:servers:start"
TOOLS = {
    "oslopolicy-sample-generator": "generator:generate_sample",
    "oslopolicy-policy-generator": "generator:generate_policy",
    "oslopolicy-list-redundant": "generator:list_redundant",
    "oslopolicy-validator": "generator:validate_policy",
    "oslopolicy-policy-upgrade": "generator:upgrade_policy",
    "oslopolicy-checker": "shell:main",
}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A directory that makes the package look installed, with what pyproject.toml declares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    home = tmp_path / "site" / "kilonova-0.0.dist-info"
    home.mkdir(parents=True)
    (home / "METADATA").write_text("Metadata-Version: 2.1\nName: kilonova\nVersion: 0.0\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {where}" for name, where in points.items())]
    (home / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return home.parent


def run(tool: str, *args: str, site: Path) -> subprocess.CompletedProcess[str]:
    module, _, function = TOOLS[tool].partition(":")
    code = f"import sys; from oslo_policy import {module} as m; sys.exit(m.{function}())"
    environment = {
        **os.environ,
        "PYTHONPATH": f"{site}{os.pathsep}{ROOT}",
        "HOME": str(site),
        "XDG_CACHE_HOME": str(site / "cache"),
    }
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def configured(folder: Path, rules: str) -> str:
    """An operator's files; the path of the INI file."""
    (folder / "policy.yaml").write_text(rules)
    file = folder / "nova.conf"
    file.write_text("[oslo_policy]\npolicy_file = policy.yaml\n")
    return str(file)


@pytest.mark.parametrize(("namespace", "rules"), [("nova", 214), ("placement", 38)])
def test_the_sample_has_every_rule_as_a_comment(
    namespace: str, rules: int, installed: Path
) -> None:
    made = run("oslopolicy-sample-generator", "--namespace", namespace, site=installed)
    assert made.returncode == 0, made.stderr
    assert yaml.safe_load(made.stdout) is None
    listed = [line for line in made.stdout.splitlines() if line.startswith('#"')]
    assert len({line.split('"')[1] for line in listed}) >= rules
    if namespace == "nova":
        assert f'#"{START}": "rule:project_member_or_admin"' in listed
        assert "# POST  /servers/{server_id}/action (os-start)" in made.stdout
        assert "# Intended scope(s): project" in made.stdout


def test_a_sample_without_what_was_before(installed: Path) -> None:
    made = run(
        *("oslopolicy-sample-generator", "--namespace", "nova", "--exclude-deprecated"),
        site=installed,
    )
    listed = [line for line in made.stdout.splitlines() if line.startswith('#"')]
    assert len([line for line in listed if "kilonova:" not in line]) == 214


@pytest.mark.parametrize("namespace", ["nova", "placement"])
def test_the_policy_in_force_is_written_out(
    namespace: str, installed: Path, tmp_path: Path
) -> None:
    rule = START if namespace == "nova" else "placement:usages"
    file = configured(tmp_path, f'"{rule}": "role:starter"\n')
    made = run(
        *("oslopolicy-policy-generator", "--namespace", namespace, "--config-file", file),
        site=installed,
    )
    assert made.returncode == 0, made.stderr
    written = yaml.safe_load(made.stdout)
    assert written[rule] == "role:starter"
    assert len(written) >= (214 if namespace == "nova" else 38)


@pytest.mark.parametrize("namespace", ["nova", "placement"])
def test_overrides_that_change_nothing_are_named(
    namespace: str, installed: Path, tmp_path: Path
) -> None:
    same = (
        ("os_compute_api:servers:stop", "rule:project_member_or_admin")
        if namespace == "nova"
        else ("placement:traits:list", "rule:admin_or_service_api")
    )
    other = START if namespace == "nova" else "placement:traits:show"
    file = configured(tmp_path, f'"{same[0]}": "{same[1]}"\n"{other}": "role:starter"\n')
    made = run(
        *("oslopolicy-list-redundant", "--namespace", namespace, "--config-file", file),
        site=installed,
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines() == [f'"{same[0]}": "{same[1]}"']


def test_a_file_is_validated(installed: Path, tmp_path: Path) -> None:
    for rules, code in ((f'"{START}": "role:starter"\n', 0), ('"os_compute_api:no": "!"\n', 1)):
        file = configured(tmp_path, rules)
        made = run(
            *("oslopolicy-validator", "--namespace", "nova", "--config-file", file), site=installed
        )
        assert made.returncode == code, made.stderr


def test_old_names_in_a_file_are_upgraded(installed: Path, tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text('"os_compute_api:os-used-limits": "role:auditor"\n')
    made = run(
        *("oslopolicy-policy-upgrade", "--namespace", "nova", "--policy", str(file)),
        site=installed,
    )
    assert made.returncode == 0, made.stderr
    assert yaml.safe_load(made.stdout) == {"os_compute_api:limits:other_project": "role:auditor"}


def test_a_token_is_checked_against_the_policy_in_force(installed: Path, tmp_path: Path) -> None:
    file = configured(tmp_path, '"os_compute_api:servers:stop": "role:starter"\n')
    policy = tmp_path / "whole.yaml"
    run(
        *("oslopolicy-policy-generator", "--namespace", "nova", "--config-file", file),
        *("--output-file", str(policy)),
        site=installed,
    )
    token = {
        "token": {
            "roles": [{"name": "member"}, {"name": "reader"}],
            "user": {"id": "u1"},
            "project": {"id": "p1"},
        }
    }
    access = tmp_path / "access.json"
    access.write_text(json.dumps(token))
    made = run(
        "oslopolicy-checker", "--policy", str(policy), "--access", str(access), site=installed
    )
    assert made.returncode == 0, made.stderr
    said = set(made.stdout.splitlines())
    assert f"passed: {START}" in said
    assert "failed: os_compute_api:servers:stop" in said
    assert "failed: os_compute_api:os-services:list" in said
