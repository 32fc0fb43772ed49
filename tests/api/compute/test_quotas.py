"""Quota: legacy limits with users and classes, no limits, unified limits; and their refusals."""

from __future__ import annotations

import base64
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kilonova.api import quota_rules
from kilonova.clients.identity import Identity
from kilonova.clients.keystone import Endpoint, Login, PasswordSource
from kilonova.config.quota import Quota, Workarounds
from kilonova.config.settings import Settings
from kilonova.db.database import Tx
from kilonova.domain.guest import FlavorSpec, PowerState
from kilonova.domain.quotas import NOOP, UNIFIED, OverQuota
from kilonova.domain.states import VmState
from kilonova.interfaces.identity import UnifiedLimits
from kilonova.web.client import Answer, HttpClient
from tests.support import identity as keystone
from tests.support.cloud import OTHER, PROJECT, Cloud, body

SETS = f"/v2.1/os-quota-sets/{PROJECT}"
CLASSES = "/v2.1/os-quota-class-sets/default"
ALWAYS = {"instances", "cores", "ram", "metadata_items", "key_pairs"}
GROUPS = {"server_groups", "server_group_members"}
FILES = {"injected_files", "injected_file_content_bytes", "injected_file_path_bytes"}
NETWORK = {"fixed_ips", "floating_ips", "security_groups", "security_group_rules"}


class Limits:
    """An identity service with limits that a test sets."""

    def __init__(self, registered: dict[str, int], own: dict[str, int] | None = None) -> None:
        self.registered = registered
        self.own = own or {}
        self.stale: UnifiedLimits | None = None

    async def exists(self, project_id: str) -> bool | None:
        return project_id in (PROJECT, OTHER)

    async def limits(self, project_id: str | None, *, fresh: bool = False) -> UnifiedLimits:
        if self.stale is not None and not fresh:
            return self.stale
        return UnifiedLimits(dict(self.registered), dict(self.own) if project_id else {})


class Held:
    """What Placement says projects and users hold."""

    def __init__(self) -> None:
        self.held: dict[str | None, dict[str, int]] = {}

    async def usages(
        self, project_id: str, user_id: str | None = None
    ) -> dict[str, dict[str, int]]:
        return {"INSTANCE": {"consumer_count": 1, **self.held.get(user_id, {})}}


def need(answer: Answer, status: int = 200) -> Any:
    assert answer.status == status, (answer.status, answer.text)
    return answer.json() if answer.body else None


def refused(answer: Answer) -> str:
    return str(need(answer, 403)["forbidden"]["message"])


def made(
    settings: Settings, limits: Limits | None = None, held: Held | None = None
) -> Iterator[Cloud]:
    cloud = Cloud(settings)
    cloud.services = msgspec.structs.replace(cloud.services, identity=limits, usages=held)
    cloud.app = cloud.build()
    yield cloud
    cloud.close()


@pytest.mark.parametrize(
    ("version", "names", "of_class"),
    [
        ("2.1", ALWAYS | GROUPS | FILES | NETWORK, ALWAYS | FILES | NETWORK),
        ("2.35", ALWAYS | GROUPS | FILES | NETWORK, ALWAYS | FILES | NETWORK),
        ("2.36", ALWAYS | GROUPS | FILES, ALWAYS | FILES | NETWORK),
        ("2.49", ALWAYS | GROUPS | FILES, ALWAYS | FILES | NETWORK),
        ("2.50", ALWAYS | GROUPS | FILES, ALWAYS | GROUPS | FILES),
        ("2.56", ALWAYS | GROUPS | FILES, ALWAYS | GROUPS | FILES),
        ("2.57", ALWAYS | GROUPS, ALWAYS | GROUPS),
        ("2.104", ALWAYS | GROUPS, ALWAYS | GROUPS),
    ],
)
async def test_each_version_names_its_resources(
    cloud: Cloud, version: str, names: set[str], of_class: set[str]
) -> None:
    admin = cloud.client("admin", version)
    for path in (SETS, f"{SETS}/defaults", f"{SETS}/detail"):
        shown = need(await admin.get(path))["quota_set"]
        assert shown.pop("id") == PROJECT
        assert set(shown) == names
    assert set(need(await admin.put(SETS, json={"quota_set": {}}))["quota_set"]) == names
    shown = need(await admin.get(CLASSES))["quota_class_set"]
    assert (shown.pop("id"), set(shown)) == ("default", of_class)
    changed = need(await admin.put(CLASSES, json={"quota_class_set": {"cores": 21}}))
    assert set(changed["quota_class_set"]) == of_class
    gone = (ALWAYS | GROUPS | FILES | NETWORK) - names
    for name in gone:
        need(await admin.put(SETS, json={"quota_set": {name: 1}}), 400)


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("2.1", {"maxImageMeta", "maxPersonality", "maxTotalFloatingIps", "totalFloatingIpsUsed"}),
        ("2.36", {"maxImageMeta", "maxPersonality"}),
        ("2.39", {"maxPersonality"}),
        ("2.57", set()),
    ],
)
async def test_limits_by_version(cloud: Cloud, version: str, names: set[str]) -> None:
    shown = need(await cloud.client("reader", version).get("/v2.1/limits"))["limits"]
    every = {"maxImageMeta", "maxPersonality", "maxTotalFloatingIps", "totalFloatingIpsUsed"}
    assert shown["rate"] == []
    assert every & set(shown["absolute"]) == names
    assert shown["absolute"]["maxTotalInstances"] == 10
    assert shown["absolute"]["totalServerGroupsUsed"] == 0


async def test_limits_of_another_project_are_for_administrators(cloud: Cloud) -> None:
    for project in (PROJECT, OTHER):
        need(await cloud.client("member").get(f"/v2.1/limits?tenant_id={project}"), 403)
        need(await cloud.client("admin").get(f"/v2.1/limits?tenant_id={project}"))


async def test_old_network_quotas_are_kept_and_shown(cloud: Cloud) -> None:
    admin = cloud.client("admin", "2.35")
    assert need(await admin.get(SETS))["quota_set"]["floating_ips"] == -1
    changed = need(await admin.put(SETS, json={"quota_set": {"floating_ips": "7"}}))
    assert changed["quota_set"]["floating_ips"] == 7
    limits = need(await cloud.client("member", "2.35").get("/v2.1/limits"))["limits"]
    assert limits["absolute"]["maxTotalFloatingIps"] == 7


async def test_what_is_used_and_given_to_users_bounds_a_limit(cloud: Cloud) -> None:
    admin, member = cloud.client("admin"), cloud.client("member")
    need(await member.post("/v2.1/servers", json=body()), 202)
    user = f"{SETS}?user_id=fake"

    async def put(path: str, **values: Any) -> str:
        answer = await admin.put(path, json={"quota_set": values})
        return str(answer.json()["badRequest"]["message"]) if answer.status == 400 else "done"

    assert await put(SETS, cores=0) == (
        "Quota limit 0 for cores must be greater than or equal to already used and reserved 1."
    )
    assert await put(user, instances=4) == "done"
    assert await put(f"{SETS}?user_id=looker", instances=7) == (
        "Quota limit 7 for instances must be less than or equal to 6."
    )
    assert await put(f"{SETS}?user_id=looker", instances=-1) == (
        "Quota limit -1 for instances must be less than or equal to 6."
    )
    assert await put(user, instances=10) == "done"
    assert await put(SETS, instances=5) == (
        "Quota limit 5 for instances must be greater than or equal to already used and reserved 10."
    )
    assert await put(user, instances=99, force="True") == "done"
    assert await put(SETS, instances=-1, cores="0", force=True) == "done"
    assert need(await admin.get(SETS))["quota_set"]["cores"] == 0
    assert need(await admin.get(user))["quota_set"]["instances"] == 99
    need(await admin.delete(user), 202)
    assert need(await admin.get(user))["quota_set"]["instances"] == -1
    need(await admin.delete(SETS), 202)
    assert need(await admin.get(SETS))["quota_set"]["instances"] == 10


async def test_a_users_own_limit(cloud: Cloud) -> None:
    admin, member = cloud.client("admin"), cloud.client("member")
    need(await admin.put(f"{SETS}?user_id=fake", json={"quota_set": {"instances": 1}}))
    need(await member.post("/v2.1/servers", json=body()), 202)
    said = refused(await member.post("/v2.1/servers", json=body()))
    assert said == ("Quota exceeded for instances: Requested 1, but already used 1 of 1 instances")
    need(await admin.post("/v2.1/servers", json=body()), 202)
    used = need(await admin.get(f"{SETS}/detail?user_id=fake"))["quota_set"]["instances"]
    assert used == {"limit": 1, "in_use": 1, "reserved": 0}
    used = need(await admin.get(f"{SETS}/detail"))["quota_set"]["instances"]
    assert used == {"limit": 10, "in_use": 2, "reserved": 0}


async def test_the_words_of_a_refusal_name_all_that_is_over(cloud: Cloud) -> None:
    admin, member = cloud.client("admin"), cloud.client("member")
    need(await admin.put(SETS, json={"quota_set": {"cores": 3, "instances": 2, "ram": 51200}}))
    need(await member.post("/v2.1/servers", json=body()), 202)
    said = refused(await member.post("/v2.1/servers", json=body(min_count=4, max_count=5)))
    assert said == (
        "Quota exceeded for cores, instances: Requested 5, 4-5, but already used 1, 1 of 3, 2 "
        "cores, instances"
    )
    need(await member.post("/v2.1/servers", json=body(min_count=1, max_count=5)), 202)
    listed = need(await member.get("/v2.1/servers"))["servers"]
    assert len(listed) == 2


@pytest.mark.parametrize(
    ("quota", "values", "said"),
    [
        (
            Quota(metadata_items=1),
            {"metadata": {"a": "b", "c": "d"}},
            "Maximum number of metadata items exceeds 1",
        ),
        (
            Quota(injected_files=0),
            {"personality": [{"path": "/a", "contents": ""}]},
            "Personality file limit exceeded",
        ),
        (
            Quota(injected_file_path_length=2),
            {"personality": [{"path": "/abc", "contents": ""}]},
            "Personality file path exceeds maximum 2",
        ),
        (
            Quota(injected_file_content_bytes=2),
            {"personality": [{"path": "/a", "contents": base64.b64encode(b"abc").decode()}]},
            "Personality file content exceeds maximum 2",
        ),
    ],
)
async def test_small_quotas_of_a_new_server(
    quota: Quota, values: dict[str, Any], said: str
) -> None:
    for cloud in made(Settings(quota=quota)):
        answer = await cloud.client("member").post("/v2.1/servers", json=body(**values))
        assert refused(answer) == said


async def test_small_quotas_of_other_resources() -> None:
    quota = Quota(metadata_items=1, key_pairs=1, server_groups=1, server_group_members=1)
    for cloud in made(Settings(quota=quota)):
        client = cloud.client("member")
        group = {"server_group": {"name": "g", "policies": ["affinity"]}}
        gid = need(await client.post("/v2.1/os-server-groups", json=group))["server_group"]["id"]
        assert (
            refused(await client.post("/v2.1/os-server-groups", json=group))
            == "Quota exceeded, too many server groups."
        )
        detail = need(await client.get(f"{SETS}/detail"))["quota_set"]["server_groups"]
        assert detail == {"limit": 1, "in_use": 1, "reserved": 0}
        grouped = {**body(), "os:scheduler_hints": {"group": gid}}
        sid = need(await client.post("/v2.1/servers", json=grouped), 202)["server"]["id"]
        assert (
            refused(await client.post("/v2.1/servers", json=grouped))
            == "Quota exceeded, too many servers in group"
        )
        need(await client.post("/v2.1/os-keypairs", json={"keypair": {"name": "a"}}))
        assert (
            refused(await client.post("/v2.1/os-keypairs", json={"keypair": {"name": "b"}}))
            == "Quota exceeded, too many key pairs."
        )
        cloud.run(sid)
        path = f"/v2.1/servers/{sid}/metadata"
        need(await client.post(path, json={"metadata": {"a": "b"}}))
        need(await client.put(f"{path}/a", json={"meta": {"a": "c"}}))
        assert (
            refused(await client.post(path, json={"metadata": {"c": "d"}}))
            == "Maximum number of metadata items exceeds 1"
        )


async def test_projects_that_are_not_there() -> None:
    for cloud in made(Settings(), Limits({})):
        admin = cloud.client("admin")
        for path in ("", "/defaults", "/detail"):
            need(await admin.get(f"/v2.1/os-quota-sets/nobody{path}"), 400)
        need(await admin.put("/v2.1/os-quota-sets/nobody", json={"quota_set": {}}), 400)
        need(await admin.delete("/v2.1/os-quota-sets/nobody"), 202)
        need(await admin.get(SETS))


async def test_no_limits_at_all() -> None:
    for cloud in made(Settings(quota=Quota(instances=0, metadata_items=0, driver=NOOP))):
        admin, member = cloud.client("admin"), cloud.client("member")
        need(await member.post("/v2.1/servers", json=body(metadata={"a": "b"})), 202)
        shown = need(await member.get(SETS))["quota_set"]
        assert {shown[name] for name in ALWAYS | GROUPS | FILES | NETWORK} == {-1}
        detail = need(await member.get(f"{SETS}/detail"))["quota_set"]["cores"]
        assert detail == {"limit": -1, "in_use": -1, "reserved": -1}
        need(await admin.put(SETS, json={"quota_set": {"cores": 0}}))
        limits = need(await member.get("/v2.1/limits"))["limits"]["absolute"]
        assert (limits["maxTotalCores"], limits["totalCoresUsed"]) == (-1, -1)


UNIFIED_LIMITS = {
    "servers": 5,
    "class:VCPU": 4,
    "class:MEMORY_MB": 4096,
    "class:DISK_GB": 100,
    "server_metadata_items": 1,
    "server_key_pairs": 1,
    "server_groups": 2,
}


async def test_unified_limits_are_shown_and_never_written() -> None:
    limits = Limits(UNIFIED_LIMITS, {"class:VCPU": 2})
    for cloud in made(Settings(quota=Quota(driver=UNIFIED)), limits, Held()):
        admin = cloud.client("admin")
        expected = {
            **dict.fromkeys(NETWORK, -1),
            **{"instances": 5, "cores": 2, "ram": 4096, "metadata_items": 1, "key_pairs": 1},
            **{"server_groups": 2, "server_group_members": 0, "injected_files": 0},
            **{"injected_file_content_bytes": 0, "injected_file_path_bytes": 0},
        }
        assert need(await admin.get(SETS))["quota_set"] == {"id": PROJECT, **expected}
        changed = need(await admin.put(SETS, json={"quota_set": {"cores": 50, "instances": 0}}))
        assert changed["quota_set"] == expected
        need(await admin.delete(SETS), 202)
        defaults = need(await admin.get(f"{SETS}/defaults"))["quota_set"]
        assert (defaults["cores"], defaults["instances"]) == (4, 5)
        changed = need(await admin.put(CLASSES, json={"quota_class_set": {"cores": 50}}))
        assert changed["quota_class_set"]["cores"] == 4


async def test_unified_limits_count_what_placement_says() -> None:
    limits, held = Limits(dict(UNIFIED_LIMITS)), Held()
    held.held[None] = {"VCPU": 2, "MEMORY_MB": 1024, "DISK_GB": 10}
    for cloud in made(Settings(quota=Quota(driver=UNIFIED)), limits, held):
        client = cloud.client("member")
        need(await client.post("/v2.1/servers", json=body()), 202)
        detail = need(await client.get(f"{SETS}/detail"))["quota_set"]
        assert (detail["cores"]["in_use"], detail["ram"]["in_use"]) == (3, 1536)
        said = refused(await client.post("/v2.1/servers", json=body(min_count=2)))
        assert said == (
            f"Project {PROJECT} is over a limit for [Resource class:VCPU is over limit of 4 due to "
            "current usage 3 and delta 2]"
        )
        need(await client.post("/v2.1/servers", json=body()), 202)
        limits.own = {"servers": 2}
        assert "Resource servers is over limit of 2" in refused(
            await client.post("/v2.1/servers", json=body())
        )


async def test_local_unified_limits_use_the_registered_ones() -> None:
    limits = Limits(dict(UNIFIED_LIMITS), {"server_key_pairs": 50})
    for cloud in made(Settings(quota=Quota(driver=UNIFIED)), limits, Held()):
        client = cloud.client("member")
        need(await client.post("/v2.1/os-keypairs", json={"keypair": {"name": "a"}}))
        said = refused(await client.post("/v2.1/os-keypairs", json={"keypair": {"name": "b"}}))
        assert said == (
            "Project None is over a limit for [Resource server_key_pairs is over limit of 1 due to "
            "current usage 1 and delta 1]"
        )
        answer = await client.post("/v2.1/servers", json=body(metadata={"a": "b", "c": "d"}))
        assert "Resource server_metadata_items is over limit of 1" in refused(answer)


@pytest.mark.parametrize(
    ("strategy", "listed", "status"),
    [
        ("require", ("servers",), 202),
        ("require", ("servers", "class:DISK_GB"), 403),
        ("ignore", ("class:DISK_GB",), 202),
        ("ignore", ("servers",), 403),
    ],
)
async def test_limits_that_nobody_set(strategy: str, listed: tuple[str, ...], status: int) -> None:
    quota = Quota(
        driver=UNIFIED,
        unified_limits_resource_strategy=strategy,
        unified_limits_resource_list=listed,
    )
    limits = Limits({"servers": 9, "class:VCPU": -1, "class:MEMORY_MB": 9999})
    for cloud in made(Settings(quota=quota), limits, Held()):
        answer = await cloud.client("member").post("/v2.1/servers", json=body())
        assert answer.status == status, answer.text


async def test_remembered_limits_do_not_refuse_what_new_ones_allow() -> None:
    limits = Limits(dict(UNIFIED_LIMITS))
    limits.stale = UnifiedLimits({"servers": 0}, {}, remembered=True)
    for cloud in made(Settings(quota=Quota(driver=UNIFIED)), limits, Held()):
        need(await cloud.client("member").post("/v2.1/servers", json=body()), 202)


@pytest.mark.parametrize(("pcpu_too", "status"), [(False, 202), (True, 403)])
async def test_dedicated_cpus_may_count_as_shared_ones(pcpu_too: bool, status: int) -> None:
    held = Held()
    held.held[None] = {"PCPU": 4}
    settings = Settings(
        quota=Quota(driver=UNIFIED),
        workarounds=Workarounds(unified_limits_count_pcpu_as_vcpu=pcpu_too),
    )
    for cloud in made(settings, Limits(dict(UNIFIED_LIMITS)), held):
        answer = await cloud.client("member").post("/v2.1/servers", json=body())
        assert answer.status == status, answer.text


async def test_cores_and_memory_as_placement_holds_them() -> None:
    held = Held()
    held.held[None] = {"VCPU": 17, "PCPU": 1, "MEMORY_MB": 1000}
    held.held["fake"] = {"VCPU": 1}
    settings = Settings(quota=Quota(count_usage_from_placement=True))
    for cloud in made(settings, None, held):
        client = cloud.client("member")
        sid = need(await client.post("/v2.1/servers", json=body()), 202)["server"]["id"]
        limits = need(await client.get("/v2.1/limits"))["limits"]["absolute"]
        assert limits["totalCoresUsed"] == 19
        assert limits["totalRAMUsed"] == 1512
        used = need(await client.get(f"{SETS}/detail?user_id=fake"))["quota_set"]["cores"]
        assert used["in_use"] == 2
        assert "Quota exceeded for cores: Requested 2, but already used 19 of 20 cores" in refused(
            await client.post("/v2.1/servers", json=body(min_count=2))
        )
        cloud.run(sid)
        cloud.pass_time(60)
        limits = need(await client.get("/v2.1/limits"))["limits"]["absolute"]
        assert limits["totalCoresUsed"] == 18


async def test_the_client_reads_limits_of_an_identity_service(tmp_path: Path) -> None:
    place = await keystone.start(tmp_path)
    admin = await place.client("admin", "admin")
    services = need(await admin.get("/v3/services?type=compute"))["services"]
    project = need(await admin.get("/v3/projects?name=demo"))["projects"][0]["id"]
    http = HttpClient(loopback={"http://testserver": place.app})
    clock = place.identity.clock
    login = Login("http://testserver/v3", "nova", keystone.PASSWORD, "service")
    source = PasswordSource(http, login, clock)
    client = Identity(Endpoint(http, source, "identity"), clock)
    assert await client.where() == {"service_id": services[0]["id"]}
    assert await client.exists(project)
    assert await client.exists("nobody") is False
    await client.register("servers", 10)
    await client.register("class:VCPU", 20)
    first = await client.limits(project)
    assert (first.registered, first.own) == ({"servers": 10, "class:VCPU": 20}, {})
    await client.set_limit(project, "servers", 3)
    assert (await client.limits(project)).own == {}
    assert (await client.limits(project)).remembered
    assert (await client.limits(project, fresh=True)).own == {"servers": 3}
    assert (await client.limits(None)).own == {}
    model = need(await admin.get("/v3/limits/model"))["model"]
    assert model["name"] == "flat"
    await http.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            Settings(quota=Quota(cores=2)),
            "Quota exceeded for cores: Requested 2, but already used 1 of 2 cores",
        ),
        (Settings(quota=Quota(driver=UNIFIED)), "class:VCPU is over limit of 3"),
        (Settings(quota=Quota(cores=2, driver=NOOP)), ""),
    ],
    ids=["rows", "unified", "none"],
)
async def test_growing_counts_what_is_more(settings: Settings, said: str) -> None:
    limits, held = Limits({**UNIFIED_LIMITS, "class:VCPU": 3}), Held()
    for cloud in made(settings, limits, held):
        client = cloud.client("member")
        sid = need(await client.post("/v2.1/servers", json=body()), 202)["server"]["id"]
        cloud.run(sid)
        cloud.pass_time(60)
        held.held[None] = {"VCPU": 1, "MEMORY_MB": 512}
        rules = await quota_rules.load(context_of(cloud), PROJECT, counting=True)
        old, new = (FlavorSpec(0, str(n), "f", n, 512, 1) for n in (1, 3))
        who = {"project_id": PROJECT, "user_id": "fake"}

        def grow(tx: Tx, to: FlavorSpec) -> None:
            quota_rules.grow(tx, rules, old=old, new=to, image=None, **who)  # noqa: B023

        cloud.db.run_sync(grow, old)
        if not said:
            cloud.db.run_sync(grow, new)
            continue
        with pytest.raises(OverQuota, match=said):
            cloud.db.run_sync(grow, new)


def context_of(cloud: Cloud) -> Any:
    """What handlers know of a cloud, as far as quota looks at it."""
    return types.SimpleNamespace(app=cloud.services, clock=cloud.clock)


async def test_moves_that_need_more_are_refused() -> None:
    held = Held()
    settings = Settings(quota=Quota(ram=1024, cores=9, count_usage_from_placement=True))
    for cloud in made(settings, None, held):
        client = cloud.client("member")
        sid = need(await client.post("/v2.1/servers", json=body()), 202)["server"]["id"]
        cloud.run(sid)
        cloud.pass_time(60)
        held.held[None] = {"VCPU": 1, "MEMORY_MB": 512}
        path = f"/v2.1/servers/{sid}/action"
        assert refused(await client.post(path, json={"resize": {"flavorRef": "2"}})) == (
            "Quota exceeded for ram: Requested 1536, but already used 512 of 1024 ram"
        )
        cloud.finish(sid, VmState.SHELVED_OFFLOADED, PowerState.SHUTDOWN)
        held.held[None] = {"VCPU": 1, "MEMORY_MB": 1024}
        assert "Quota exceeded for ram" in refused(await client.post(path, json={"unshelve": None}))
        held.held[None] = {"VCPU": 1, "MEMORY_MB": 512}
        assert (await client.post(path, json={"unshelve": None})).status == 202


async def _made(cloud: Cloud, **values: Any) -> str:
    made = await cloud.client(version="2.37").post(
        "/v2.1/servers", json=body(networks="none", **values)
    )
    server_id = str(need(made, 202)["server"]["id"])
    cloud.run(server_id)
    return server_id


@pytest.mark.parametrize(
    ("placement", "unified"), [(False, False), (True, False), (False, True)], ids=str
)
async def test_soft_deleted_servers_count_in_no_quota(*, placement: bool, unified: bool) -> None:
    cores = -1 if placement else 2
    quota = Quota(instances=2, cores=cores, count_usage_from_placement=placement)
    if unified:
        quota = msgspec.structs.replace(quota, driver=UNIFIED)
    limits = Limits({"servers": 2, "class:VCPU": -1, "class:MEMORY_MB": -1, "class:DISK_GB": -1})
    held = Held()
    for cloud in made(Settings(quota=quota), limits, held):
        client = cloud.client()
        first, second = await _made(cloud), await _made(cloud)
        action = f"/v2.1/servers/{first}/action"
        assert "uota" in refused(await client.post("/v2.1/servers", json=body())) or unified
        cloud.finish(first, VmState.SOFT_DELETED, PowerState.SHUTDOWN)
        third = await _made(cloud)
        shown = need(await client.get("/v2.1/limits"))["limits"]["absolute"]
        assert shown["totalInstancesUsed"] == 2
        message = refused(await client.post(action, json={"restore": None}))
        if unified:
            assert "Resource servers is over limit of 2 due to current usage 2" in message
        elif placement:
            assert "Quota exceeded for instances: Requested 1, but already used 2" in message
        else:
            assert "Quota exceeded for cores, instances: Requested 1, 1" in message
        assert cloud.cell1.db.run_sync(cloud.sagas.names) == []
        for server_id in (second, third):
            cloud.delete(server_id)
        need(await client.post(action, json={"restore": None}), 202)
        shown = need(await client.get("/v2.1/limits"))["limits"]["absolute"]
        assert shown["totalInstancesUsed"] == 1
        assert "task_state" in refused_with(await client.post(action, json={"restore": None}), 409)
        cloud.finish(first, VmState.SOFT_DELETED, PowerState.SHUTDOWN)
        reset = {"os-resetState": {"state": "active"}}
        need(await cloud.client("admin").post(action, json=reset), 202)
        shown = need(await client.get("/v2.1/limits"))["limits"]["absolute"]
        assert shown["totalInstancesUsed"] == 1


def refused_with(answer: Answer, status: int) -> str:
    (fault,) = need(answer, status).values()
    return str(fault["message"])
