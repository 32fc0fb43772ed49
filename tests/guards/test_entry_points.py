"""Whatever pyproject.toml names is there, and every module can be imported on its own."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest

from tests.guards import source

SCRIPTS: dict[str, str] = source.project()["project"]["scripts"]
POINTS: dict[str, dict[str, str]] = source.project()["project"].get("entry-points", {})
TARGETS = {**SCRIPTS, **{f"{g}:{n}": t for g, table in POINTS.items() for n, t in table.items()}}
OPTIONAL = {"libvirt", "libvirtaio", "os_brick", "os_vif", "aio_pika", "psycopg", "pymysql"}


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_entry_points_exist(name: str) -> None:
    module, _, attribute = TARGETS[name].partition(":")
    assert callable(getattr(importlib.import_module(module), attribute))


def test_every_module_imports() -> None:
    """In a process of its own, warnings being errors; libraries of extras may be missing."""
    names = [
        source.name(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in source.modules()
        if path.name != "__main__.py" and path.parent.name != "versions"
    ]
    lines = ["import importlib", f"for name in {names!r}:", "    try:"]
    lines += ["        importlib.import_module(name)", "    except ModuleNotFoundError as error:"]
    lines += [f"        if error.name.partition('.')[0] not in {OPTIONAL!r}:", "            raise"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(lines)],
        cwd=source.ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_lock_knows_every_library() -> None:
    """The lock names a version for each library and extra, and no place to get it from."""
    project = source.project()["project"]
    lock = (source.ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = {_plain(m) for m in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    extras = project["optional-dependencies"]
    wanted = list(project["dependencies"])
    # What real clouds' volumes and interfaces need is installed by those who have them.
    wanted += [one for name, group in extras.items() if name != "openstack" for one in group]
    missing = {_plain(one) for one in wanted} - locked
    assert not missing, f"make requirements.lock anew: {sorted(missing)}"
    assert "://" not in lock
    assert " @ " not in lock


def _plain(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()
