"""What commands import before they do anything: imports are most of what a quick command takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kilonova.services.layout import STANDARD_PORTS
from tests.guards import source
from tests.simulated.conftest import free_ports

LIBRARIES = frozenset(
    {
        "aio_pika", "aiohttp", "alembic", "cryptography", "jinja2", "jsonschema", "keystoneauth1",
        "libvirt", "oslo_config", "oslo_policy", "oslo_utils", "prometheus_client", "psutil",
        "pyroute2", "rich", "sqlalchemy", "starlette", "uvicorn", "yaml",
    }
)  # fmt: skip
SELDOM = frozenset({"aio_pika", "aiohttp", "pyroute2", "alembic", "jinja2", "keystoneauth1"}) | {
    "jsonschema", "libvirt", "rich", "asyncssh", "paramiko", "qemu", "pycdlib", "requests",
}  # fmt: skip
# A cloud of one process that finds everything as it left it gets by without these.
SECOND = SELDOM | {
    "oslo_config", "oslo_policy", "oslo_utils", "oslo_serialization", "stevedore", "netaddr",
    "rfc3986", "yaml", "typer", "websockets",
    "kilonova.api.crypto", "kilonova.embedded.image.content",
    "kilonova.policy.library", "sqlalchemy.dialects.mysql", "sqlalchemy.dialects.postgresql",
}  # fmt: skip
QUICK = LIBRARIES | {"asyncio", "concurrent", "email", "http", "ssl", "typer", "pydantic"}


def imported(code: str) -> tuple[str, frozenset[str]]:
    """What a new process printed, and every module it had imported at its end, libraries too."""
    look = f"{code}\nimport sys; print(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", look],
        cwd=source.ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said, _, modules = done.stdout.rstrip().rpartition("\n")
    names = set(modules.split())
    return said, frozenset(names | {name.partition(".")[0] for name in names})


@pytest.mark.parametrize(
    ("words", "without"),
    [
        # What prints a table pays for Rich, and what talks to a cloud for a client.
        ("kilonova.cmd.kilonova", QUICK),
        ("kilonova.cmd.kilonova, kilonova.cmd.status, kilonova.services.status", LIBRARIES),
        ("kilonova.services.foreground", SECOND),
        ("kilonova.cmd.nova_api", SELDOM),
    ],
)
def test_modules_that_are_not_imported(words: str, without: frozenset[str]) -> None:
    assert without & imported(f"import {words}")[1] == set()


def test_status_of_a_cloud_that_does_not_run_imports_no_library() -> None:
    look = (
        "import sys; sys.argv[1:] = ['status', '--json', '--state-dir', '/nonexistent']\n"
        "from kilonova.cmd.kilonova import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 1"
    )
    said, modules = imported(look)
    assert '"running":false' in said
    assert (LIBRARIES | {"typer", "pydantic"}) & modules == set()


def test_what_a_second_start_imports(tmp_path: Path) -> None:
    """From nothing to every endpoint, twice; the second time little is left to do."""
    base = free_ports(len(STANDARD_PORTS))
    look = f"""
import asyncio, pathlib
from kilonova.services import all_in_one, lifecycle, progress
async def run():
    wanted = lifecycle.Wanted(pathlib.Path({str(tmp_path)!r}), {base}, "fake")
    async with all_in_one.Cloud(wanted, progress.Silence()) as cloud:
        for name in cloud.layout.ports:
            answer = await cloud.http.request("GET", cloud.layout.url(name, "/healthcheck"))
            assert answer.status == 200, name
asyncio.run(run())
"""
    assert "alembic" in imported(look)[1]
    assert SECOND & imported(look)[1] == set()
