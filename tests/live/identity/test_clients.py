"""The ordinary clients against the identity service over a socket."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openstack
import pytest
from keystoneauth1 import session
from keystoneauth1.exceptions import http
from keystoneauth1.identity import v3

from tests.support import identity, serving

pytestmark = [
    pytest.mark.live,
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

OPENSTACK = str(Path(sys.executable).with_name("openstack"))


class Cloud:
    """An identity service on a port, and the command line as a user of it."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def env(self, user: str, project: str) -> dict[str, str]:
        """What a user's openrc would set."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "OS_AUTH_URL": f"{self.origin}/v3",
            "OS_USERNAME": user,
            "OS_PASSWORD": identity.PASSWORD,
            "OS_PROJECT_NAME": project,
            "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default",
            "OS_IDENTITY_API_VERSION": "3",
            "OS_REGION_NAME": "RegionOne",
        }

    async def cli(self, *words: str, env: dict[str, str] | None = None) -> Any:
        """``openstack WORDS -f json`` as the administrator; its output."""
        shown = words[-1] not in ("--quiet",)
        argv = [OPENSTACK, *(w for w in words if w != "--quiet")]
        if shown:
            argv += ["-f", "json"]
        code, out, err = await serving.run(*argv, env=env or self.env("admin", "admin"))
        assert code == 0, f"{words}: {out}{err}"
        return json.loads(out) if shown else None

    def connection(self, user: str, project: str, **more: str) -> openstack.connection.Connection:
        """An openstacksdk connection."""
        return openstack.connect(
            load_yaml_config=False,
            load_envvars=False,
            auth_url=f"{self.origin}/v3",
            username=user,
            password=identity.PASSWORD,
            project_name=project,
            user_domain_id="default",
            project_domain_id="default",
            region_name="RegionOne",
            **more,
        )


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    listener = serving.listening_socket()
    place = await identity.start(tmp_path, base=serving.origin(listener))
    async with serving.served(place.app, listener) as origin:
        yield Cloud(origin)
    place.identity.close()


async def test_command_line_manages_projects_users_and_roles(cloud: Cloud) -> None:
    token = await cloud.cli("token", "issue")
    assert len(token["id"]) > 50
    project = await cloud.cli("project", "create", "--description", "x", "--tag", "t", "blue")
    assert project["tags"] == ["t"]
    user = await cloud.cli("user", "create", "--project", "blue", "--password", "p", "ann")
    await cloud.cli("role", "add", "--user", "ann", "--project", "blue", "member", "--quiet")
    rows = await cloud.cli("role", "assignment", "list", "--user", "ann", "--names")
    assert rows[0]["Role"] == "member"
    assert rows[0]["Project"] == "blue@Default"
    listed = await cloud.cli("project", "list")
    assert {row["Name"] for row in listed} == {"admin", "service", "demo", "blue"}
    await cloud.cli("user", "set", "--password", "q", "ann", "--quiet")
    env = {**cloud.env("ann", "blue"), "OS_PASSWORD": "q"}
    mine = await cloud.cli("token", "issue", env=env)
    assert mine["user_id"] == user["id"]
    await cloud.cli("role", "remove", "--user", "ann", "--project", "blue", "member", "--quiet")
    await cloud.cli("user", "delete", "ann", "--quiet")
    await cloud.cli("project", "delete", "blue", "--quiet")


async def test_command_line_manages_the_catalog(cloud: Cloud) -> None:
    await cloud.cli("service", "create", "--name", "swift", "object-store")
    url = "http://x/v1/AUTH_%(tenant_id)s"
    made = await cloud.cli(
        "endpoint", "create", "--region", "RegionOne", "object-store", "public", url
    )
    shown = await cloud.cli("endpoint", "show", made["id"])
    assert shown["url"] == url
    catalog = await cloud.cli("catalog", "list")
    assert {row["Name"] for row in catalog} == {"keystone", "nova", "swift"}
    await cloud.cli("endpoint", "delete", made["id"], "--quiet")
    await cloud.cli("service", "delete", "swift", "--quiet")
    await cloud.cli("region", "create", "RegionTwo")
    assert len(await cloud.cli("region", "list")) == 2


async def test_application_credential_logs_in(cloud: Cloud) -> None:
    env = cloud.env("demo", "demo")
    made = await cloud.cli("application", "credential", "create", "ci", env=env)
    auth = v3.ApplicationCredential(
        f"{cloud.origin}/v3",
        application_credential_id=made["ID"],
        application_credential_secret=made["Secret"],
    )

    def use() -> str:
        s = session.Session(auth)
        project: str = s.get_project_id()
        assert s.get("/auth/projects", endpoint_filter={"service_type": "identity"}).ok
        return project

    assert await asyncio.to_thread(use) == made["Project ID"]
    await cloud.cli("application", "credential", "delete", "ci", "--quiet", env=env)
    auth.invalidate()
    with pytest.raises(http.Unauthorized):
        await asyncio.to_thread(session.Session(auth).get_token)


async def test_sdk_lists_and_pages(cloud: Cloud) -> None:
    def use() -> None:
        with cloud.connection("admin", "admin") as connection:
            for number in range(5):
                connection.identity.create_user(name=f"u{number}", password="p")
            names = {user.name for user in connection.identity.users(limit=2)}
            assert {"u0", "u1", "u2", "u3", "u4", "admin", "demo", "nova"} <= names
            found = connection.identity.find_project("demo")
            assert found.domain_id == "default"
            assert [role.name for role in connection.identity.roles(name="member")] == ["member"]
            group = connection.identity.create_group(name="g")
            user = connection.identity.find_user("u1")
            connection.identity.add_user_to_group(user, group)
            assert [u.name for u in connection.identity.group_users(group)] == ["u1"]
            member = connection.identity.find_role("member")
            connection.identity.assign_project_role_to_group(found, group, member)
            assert connection.identity.validate_group_has_project_role(found, group, member)

    await asyncio.to_thread(use)


async def test_system_scope_and_version_discovery(cloud: Cloud) -> None:
    def use() -> dict[str, Any]:
        auth = v3.Password(
            cloud.origin,
            username="admin",
            password=identity.PASSWORD,
            user_domain_name="Default",
            system_scope="all",
        )
        s = session.Session(auth)
        access = auth.get_access(s)
        assert access.system_scoped
        assert s.get_endpoint(service_type="identity", version="3").endswith("/v3")
        roles: dict[str, Any] = s.get(f"{cloud.origin}/v3/roles").json()
        return roles

    assert len((await asyncio.to_thread(use))["roles"]) == 5
