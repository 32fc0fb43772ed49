"""Flavors, keys, groups, quotas, usage: what is only rows."""

from __future__ import annotations

from tests.live.judges.walk.ground import Ground

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl walk"
USER = "0123456789abcdef0123456789abcdef"


def versions(ground: Ground) -> None:
    """Documents of the versions, extensions, limits, zones."""
    talk = ground.talk
    talk.read("/", "/extensions", "/extensions/os-keypairs", "/limits")
    talk.read("/os-availability-zone", "/os-availability-zone/detail")
    for at in (1, 104):
        talk.ask("GET", "/extensions/no-such-thing", at=at, want=404)
        talk.ask("GET", "/versions/v2.1", at=at)


def flavors(ground: Ground) -> None:
    """Flavors, their extra specs, and who may use them."""
    talk = ground.talk
    last = ""
    for at in (1, 54, 55, 60, 61, 74, 75, 101, 102, 104):
        flavor = {"name": f"walk-{at}", "ram": 64, "vcpus": 1, "disk": 0, "swap": 0}
        if at >= 55:
            flavor["description"] = "walked over"
        flavor["os-flavor-access:is_public"] = False
        made = talk.ask("POST", "/flavors", {"flavor": flavor}, at=at)["flavor"]["id"]
        talk.ask("POST", "/flavors", {"flavor": flavor}, at=at, want=409)
        if last:
            talk.ask("DELETE", f"/flavors/{last}", at=at, want=202)
        last = made
    for at in (54, 55, 61, 75, 102):
        change = {"flavor": {"description": f"seen at {at}"}}
        talk.ask("PUT", f"/flavors/{last}", change, at=at, want=404 if at < 55 else 200)
    path = f"/flavors/{last}"
    for at in (1, 86, 104):
        specs = {"extra_specs": {"hw:cpu_policy": "shared", "hw:numa_nodes": "1"}}
        talk.ask("POST", f"{path}/os-extra_specs", specs, at=at)
        one = {"hw:cpu_policy": "dedicated"}
        talk.ask("PUT", f"{path}/os-extra_specs/hw:cpu_policy", one, at=at)
        talk.ask("PUT", f"{path}/os-extra_specs/other", one, at=at, want=400)
        talk.ask("DELETE", f"{path}/os-extra_specs/hw:cpu_policy", at=at)
        talk.ask("DELETE", f"{path}/os-extra_specs/hw:cpu_policy", at=at, want=404)
    odd = {"extra_specs": {"hw:numa_nodes": "many"}}
    talk.ask("POST", f"{path}/os-extra_specs", odd, at=85)
    talk.ask("POST", f"{path}/os-extra_specs", odd, at=86, want=400)
    for at in (1, 6, 7, 104):
        tenant = {"tenant": talk.project}
        talk.ask("POST", f"{path}/action", {"addTenantAccess": tenant}, at=at)
        talk.ask("POST", f"{path}/action", {"addTenantAccess": tenant}, at=at, want=409)
        talk.read(f"{path}/os-flavor-access") if at == 1 else None
        talk.ask("POST", f"{path}/action", {"removeTenantAccess": tenant}, at=at)
        talk.ask("POST", f"{path}/action", {"removeTenantAccess": tenant}, at=at, want=404)
    talk.read("/flavors", "/flavors/detail", path, f"/flavors/{ground.flavor}")
    talk.read(f"{path}/os-extra_specs", f"{path}/os-extra_specs/hw:numa_nodes")
    talk.read("/flavors?limit=1&sort_key=memory_mb&is_public=None", "/flavors/detail?minRam=1")
    talk.read("/flavors/no-such-flavor")
    talk.ask("GET", f"/flavors/{ground.flavor}/os-flavor-access", want=404)
    talk.ask("DELETE", path, want=202)
    talk.ask("DELETE", path, want=404)


def keypairs(ground: Ground) -> None:
    """Keys of users."""
    talk = ground.talk
    for at in (1, 2, 9, 10, 34, 35, 91, 92, 104):
        key = {"name": f"walk-{at}"}
        if at in (1, 2, 9, 92, 104):
            key["public_key"] = KEY
        if at in (2, 10, 92):
            key["type"] = "ssh"
        if at >= 10:
            key["user_id"] = USER
        want = 200 if at == 1 else 201
        refused = at >= 92 and "public_key" not in key
        talk.ask("POST", "/os-keypairs", {"keypair": key}, at=at, want=400 if refused else want)
        if "public_key" in key:
            talk.ask("POST", "/os-keypairs", {"keypair": key}, at=at, want=409)
    for at in (1, 2, 9):
        path = f"/os-keypairs/walk-{at}"
        talk.read(path)
        talk.ask("DELETE", path, at=at, want=202 if at == 1 else 204)
        talk.ask("DELETE", path, at=at, want=404)
    talk.ask("POST", "/os-keypairs", {"keypair": {"name": "bad", "public_key": "x"}}, want=400)
    talk.read("/os-keypairs", f"/os-keypairs?user_id={USER}", "/os-keypairs?limit=1")
    for at in (10, 34, 35, 92, 104):
        talk.ask("DELETE", f"/os-keypairs/walk-{at}?user_id={USER}", at=at, want=204)


def server_groups(ground: Ground) -> None:
    """Groups of servers."""
    talk = ground.talk
    made = {}
    for at in (1, 12, 13, 14, 15, 63, 64, 104):
        group = {"name": f"walk-{at}"}
        words = {"policy": "anti-affinity"} if at >= 64 else {"policies": ["affinity"]}
        answer = talk.ask("POST", "/os-server-groups", {"server_group": {**group, **words}}, at=at)
        made[at] = answer["server_group"]["id"]
    soft = {"server_group": {"name": "soft", "policies": ["soft-affinity"]}}
    talk.ask("POST", "/os-server-groups", soft, at=14, want=400)
    rules = {"name": "two", "policy": "anti-affinity", "rules": {"max_server_per_host": 2}}
    answer = talk.ask("POST", "/os-server-groups", {"server_group": rules}, at=64)
    made[65] = answer["server_group"]["id"]
    talk.read("/os-server-groups", "/os-server-groups?all_projects=1&limit=2&offset=1")
    talk.read(f"/os-server-groups/{made[65]}", f"/os-server-groups/{made[1]}")
    for at, group_id in made.items():
        talk.ask("DELETE", f"/os-server-groups/{group_id}", at=at, want=204)
        talk.ask("DELETE", f"/os-server-groups/{group_id}", at=at, want=404)


def quotas(ground: Ground) -> None:
    """Quotas of projects and classes, and what is used of them."""
    talk = ground.talk
    path = f"/os-quota-sets/{talk.project}"
    for at in (1, 35, 36, 49, 50, 56, 57, 104):
        quota = {"instances": 90, "cores": 900, "ram": 900_000, "force": True}
        if at <= 35:
            quota["floating_ips"] = 20
        talk.ask("PUT", path, {"quota_set": quota}, at=at)
        small = {"quota_class_set": {"cores": 20 + at, "instances": 100}}
        talk.ask("PUT", "/os-quota-class-sets/default", small, at=at)
    talk.ask("PUT", path, {"quota_set": {"floating_ips": 5}}, at=36, want=400)
    talk.ask("PUT", path, {"quota_set": {"injected_files": 5}}, at=57, want=400)
    talk.ask("PUT", path, {"quota_set": {"cores": -2}}, want=400)
    talk.read(path, f"{path}?user_id={USER}", f"{path}/detail", f"{path}/defaults")
    talk.read("/os-quota-class-sets/default")
    for at in (1, 104):
        other = "/os-quota-sets/0123456789abcdef0123456789abcdee"
        talk.ask("PUT", f"{path}?user_id={USER}", {"quota_set": {"cores": 10}}, at=at, want=None)
        talk.ask("DELETE", f"{path}?user_id={USER}", at=at, want=202)
        talk.ask("DELETE", other, at=at, want=None)


def usage(ground: Ground) -> None:
    """What projects have used."""
    talk = ground.talk
    span = "start=2026-01-01T00:00:00&end=2036-01-01T00:00:00"
    talk.read("/os-simple-tenant-usage", f"/os-simple-tenant-usage?detailed=1&{span}")
    talk.read(f"/os-simple-tenant-usage/{talk.project}")
    talk.read(f"/os-simple-tenant-usage/{talk.project}?{span}")
    talk.read(f"/os-simple-tenant-usage/{talk.project}?{span}&limit=1")
    for at in (1, 104):
        talk.ask("GET", "/os-simple-tenant-usage?start=never", at=at, want=400)


def audit_log(ground: Ground) -> None:
    """Which hosts have reported their servers."""
    root = "/os-instance_usage_audit_log"
    ground.talk.read(root, f"{root}/2026-01-05%2010:00:00")
    ground.talk.read(f"{root}/yesterday", want=(400,))
