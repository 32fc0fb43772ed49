"""``nova-manage limits migrate_to_unified_limits`` against the embedded identity service."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from kilonova.cmd import nova_manage
from kilonova.db.database import Database, Tx
from kilonova.domain.guest import FlavorSpec
from kilonova.store import flavors, quotas
from tests.support import identity as keystone
from tests.support.serving import listening_socket, origin, served
from tests.unit.services.test_startup import logging_as_before

__all__ = ["logging_as_before"]

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def configure(folder: Path, url: str) -> list[str]:
    file = folder / "nova.conf"
    file.write_text(
        f"[api_database]\nconnection = sqlite:///{folder}/api.db\n"
        f"[database]\nconnection = sqlite:///{folder}/cell.db\n"
        f"[keystone_authtoken]\nauth_url = {url}/v3\nusername = nova\n"
        f"password = {keystone.PASSWORD}\nproject_name = service\n"
    )
    return ["--config-file", str(file)]


async def test_limits_are_copied_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listener = listening_socket()
    place = await keystone.start(tmp_path, base=origin(listener))
    admin = await place.client("admin", "admin")
    project = (await admin.get("/v3/projects?name=demo")).json()["projects"][0]["id"]
    async with served(place.app, listener) as url:
        common = configure(tmp_path, url)

        async def manage(*argv: str) -> tuple[int, str]:
            code = await asyncio.to_thread(nova_manage.main, [*common, *argv])
            return code, capsys.readouterr().out

        async def listed(what: str, name: str) -> dict[str, int]:
            found = (await admin.get(f"/v3/{what}")).json()[what]
            return {one["resource_name"]: one[name] for one in found}

        command = ("limits", "migrate_to_unified_limits")
        code, said = await manage(*command)
        assert (code, "databases cannot be used" in said) == (2, True)
        for argv in (
            ("api_db", "sync"),
            ("cell_v2", "map_cell0"),
            ("cell_v2", "create_cell", "--transport-url", "memory://"),
            ("db", "sync"),
        ):
            await manage(*argv)
        db = Database(f"sqlite:///{tmp_path}/api.db")
        db.run_sync(fill, project)
        db.close()

        code, said = await manage(*command, "--dry-run", "--verbose")
        assert code == 3
        assert "Default limit servers = 7 is made." in said
        assert await listed("registered_limits", "default_limit") == {}

        code, said = await manage(*command, "--project-id", project)
        assert code == 3
        assert "| class:CUSTOM_TPU |     missing      |" in said
        assert "class:DISK_GB" in said
        registered = await listed("registered_limits", "default_limit")
        assert registered["servers"] == 7
        assert registered["class:VCPU"] == registered["class:PCPU"] == 20
        assert registered["server_key_pairs"] == 100
        assert len(registered) == 11
        own = await listed("limits", "resource_limit")
        assert own == {"class:VCPU": 4, "class:PCPU": 4, "servers": 2}

        services = (await admin.get("/v3/services?type=compute")).json()["services"]
        more: list[dict[str, Any]] = [
            {"service_id": services[0]["id"], "resource_name": name, "default_limit": 10}
            for name in ("class:DISK_GB", "class:CUSTOM_TPU")
        ]
        await admin.post("/v3/registered_limits", json={"registered_limits": more})
        code, said = await manage(*command, "--project-id", project, "--quiet")
        assert (code, said) == (0, "")
        code, said = await manage(*command, "--verbose")
        assert code == 0
        assert "Default limit servers = 7 is there." in said
        (tmp_path / "nova.conf").write_text(
            (tmp_path / "nova.conf").read_text().replace("username = nova", "username = nobody")
        )
        code, said = await manage(*command)
        assert (code, "did not take the limits" in said) == (1, True)


def fill(tx: Tx, project: str) -> None:
    flavor = FlavorSpec(0, "1", "tpu", 1, 512, 1, extra_specs={"resources:CUSTOM_TPU": "1"})
    flavors.create(tx, flavor, now=NOW)
    flavors.change_extra_specs(tx, "1", now=NOW, put={"resources:CUSTOM_TPU": "1"})
    quotas.set_class_limits(tx, {"instances": 7}, "default")
    quotas.set_limits(tx, {"cores": 4, "instances": 2}, project)
