"""What commands import before they do anything: imports are most of what a quick command takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.guards import source

LIBRARIES = frozenset(
    {
        "aio_pika", "aiohttp", "alembic", "cryptography", "jinja2", "jsonschema", "keystoneauth1",
        "libvirt", "oslo_config", "oslo_policy", "oslo_utils", "prometheus_client", "psutil",
        "pyroute2", "rich", "sqlalchemy", "starlette", "uvicorn", "yaml",
    }
)  # fmt: skip
NETWORK = frozenset({"aio_pika", "aiohttp", "pyroute2"})
SELDOM = frozenset({"alembic", "jinja2", "jsonschema", "keystoneauth1", "libvirt", "rich"})


@pytest.mark.parametrize(
    ("words", "without"),
    [
        # What prints a table pays for Rich, and what talks to a cloud for a client.
        ("kilonova.cmd.kilonova, kilonova.cmd.status, kilonova.services.status", LIBRARIES),
        ("kilonova.services.all_in_one", NETWORK | SELDOM),
        ("kilonova.cmd.nova_api", NETWORK | SELDOM),
    ],
)
def test_modules_that_are_not_imported(words: str, without: frozenset[str]) -> None:
    look = f"import {words}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", look],
        cwd=source.ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert not without & set(done.stdout.split())


def test_status_of_a_cloud_that_does_not_run_imports_no_library() -> None:
    look = (
        "import sys; from kilonova.cmd.kilonova import app\n"
        "try: app(['status', '--json', '--state-dir', '/nonexistent'])\n"
        "except SystemExit as end: assert end.code == 1\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", look],
        cwd=source.ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert '"running":false' in done.stdout
    assert not LIBRARIES & set(done.stdout.split())
