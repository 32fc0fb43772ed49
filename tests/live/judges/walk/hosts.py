"""What administrators see and change of hosts: services, hypervisors, aggregates, migrations."""

from __future__ import annotations

from tests.live.judges.walk.ground import Ground
from tests.live.judges.walk.talk import waited

COMPUTE = "nova-compute"


def services(ground: Ground) -> None:
    """Services: by host and binary to 2.52, by id after."""
    talk = ground.talk
    host = ground.hosts[-1]
    talk.read("/os-services", f"/os-services?host={host}&binary={COMPUTE}")
    row = {"host": host, "binary": COMPUTE}
    for at in (1, 10, 11, 52):
        talk.ask("PUT", "/os-services/disable", row, at=at)
        reason = {**row, "disabled_reason": "walk"}
        talk.ask("PUT", "/os-services/disable-log-reason", reason, at=at)
        talk.ask("PUT", "/os-services/enable", row, at=at)
        forced = 400 if at < 11 else 200
        for down in (True, False):
            words = {**row, "forced_down": down}
            talk.ask("PUT", "/os-services/force-down", words, at=at, want=forced)
        talk.ask("PUT", "/os-services/twist", row, at=at, want=404)
    found = talk.ask("GET", f"/os-services?host={host}&binary={COMPUTE}", at=53)["services"]
    path = f"/os-services/{found[0]['id']}"
    for at in (52, 53, 68, 69, 104):
        want = 404 if at < 53 else 200
        words = {"status": "disabled", "disabled_reason": "walk"}
        talk.ask("PUT", path, words, at=at, want=None if at < 53 else want)
        talk.ask("PUT", path, {"status": "enabled"}, at=at, want=None if at < 53 else want)
        talk.ask("PUT", path, {"forced_down": True}, at=at, want=None if at < 53 else want)
        talk.ask("PUT", path, {"forced_down": False}, at=at, want=None if at < 53 else want)
        talk.ask("PUT", path, {"forced_down": "perhaps"}, at=at, want=400)
    for at in (53, 104):
        talk.ask("DELETE", "/os-services/not-an-id", at=at, want=400)
        talk.ask("DELETE", f"/os-services/{ground.image}", at=at, want=404)


def delete_service(ground: Ground) -> None:
    """A host nobody uses any more; its agent lives, so that it comes back."""
    talk = ground.talk
    query = f"/os-services?host={ground.hosts[-1]}&binary={COMPUTE}"
    for at in (1, 53):
        found = talk.ask("GET", query, at=at)["services"]
        talk.ask("DELETE", f"/os-services/{found[0]['id']}", at=at, want=204)
        waited(lambda: talk.quietly("compute", "GET", query)["services"], "the service to return")


def hypervisors(ground: Ground) -> None:
    """Hypervisors: numbers to 2.52, ids after."""
    talk = ground.talk
    host = ground.hosts[0]
    talk.read("/os-hypervisors", "/os-hypervisors/detail", "/os-hypervisors/statistics")
    pattern = f"/os-hypervisors?hypervisor_hostname_pattern={host}&with_servers=True"
    talk.read(pattern)
    talk.read("/os-hypervisors/detail?limit=1", f"/os-hypervisors/{host}/search")
    talk.read(f"/os-hypervisors/{host}/servers", "/os-hypervisors/no-such/search")
    number = talk.ask("GET", "/os-hypervisors")["hypervisors"][0]["id"]
    name = talk.ask("GET", "/os-hypervisors", at=53)["hypervisors"][0]["id"]
    for at in range(1, 105):
        chosen = name if at >= 53 else number
        talk.ask("GET", f"/os-hypervisors/{chosen}", at=at)
        talk.ask("GET", f"/os-hypervisors/{chosen}?with_servers=1", at=at, want=None)
        talk.ask("GET", f"/os-hypervisors/{chosen}/uptime", at=at, want=404 if at >= 88 else 200)
    talk.ask("GET", f"/os-hypervisors/{number}", at=53, want=400)
    talk.ask("GET", "/os-hypervisors/99999", at=52, want=404)


def hosts(ground: Ground) -> None:
    """``/os-hosts``."""
    talk = ground.talk
    host = ground.hosts[-1]
    path = f"/os-hosts/{host}"
    talk.read("/os-hosts", "/os-hosts?zone=nova", path, "/os-hosts/no-such-host")
    for at in (1, 42):
        talk.ask("PUT", path, {"status": "disable"}, at=at)
        talk.ask("PUT", path, {"status": "enable"}, at=at)
        for word in ("enable", "disable"):
            talk.ask("PUT", path, {"maintenance_mode": word}, at=at)
        talk.ask("PUT", path, {"status": "perhaps"}, at=at, want=400)
        for word in ("reboot", "shutdown", "startup"):
            talk.ask("GET", f"{path}/{word}", at=at)
            talk.ask("GET", f"/os-hosts/no-such-host/{word}", at=at, want=404)


def aggregates(ground: Ground) -> None:
    """Aggregates of hosts."""
    talk = ground.talk
    for at in (1, 40, 41, 81, 104):
        words = {"name": f"walk-{at}", "availability_zone": f"zone-{at}"}
        made = talk.ask("POST", "/os-aggregates", {"aggregate": words}, at=at)["aggregate"]
        path = f"/os-aggregates/{made['id']}"
        talk.ask("POST", "/os-aggregates", {"aggregate": words}, at=at, want=409)
        talk.ask("PUT", path, {"aggregate": {"name": f"walked-{at}"}}, at=at)
        host = {"host": ground.hosts[-1]}
        talk.ask("POST", f"{path}/action", {"add_host": host}, at=at)
        talk.ask("POST", f"{path}/action", {"add_host": host}, at=at, want=409)
        talk.ask("POST", f"{path}/action", {"add_host": {"host": "no-such"}}, at=at, want=404)
        metadata = {"metadata": {"ssd": "true", "old": None}}
        talk.ask("POST", f"{path}/action", {"set_metadata": metadata}, at=at)
        if at in (1, 104):
            talk.read("/os-aggregates", path)
        cache = {"cache": [{"id": ground.image}]}
        talk.ask("POST", f"{path}/images", cache, at=at, want=404 if at < 81 else 202)
        talk.ask("DELETE", path, at=at, want=400)
        talk.ask("POST", f"{path}/action", {"remove_host": host}, at=at)
        talk.ask("POST", f"{path}/action", {"remove_host": host}, at=at, want=404)
        talk.ask("DELETE", path, at=at, want=200)
        talk.ask("DELETE", path, at=at, want=404)


def migrations(ground: Ground) -> None:
    """Moves of all servers."""
    ground.talk.read("/os-migrations", "/os-migrations?status=error", "/os-migrations?limit=1")
