"""What this API passes to its neighbours: images, networks, security groups, floating addresses."""

from __future__ import annotations

from tests.live.judges.walk.ground import Ground

AGES = (1, 34, 35)


def images(ground: Ground) -> None:
    """``/images`` (to 2.35) and their metadata (to 2.38)."""
    talk = ground.talk
    talk.read("/images", "/images/detail", "/images?limit=1", f"/images/{ground.image}")
    talk.read("/images/no-such-image", f"/images/{ground.network}")
    for at in (1, 35, 36):
        row = {"name": "walk", "disk_format": "raw", "container_format": "bare"}
        made = talk.quietly("image", "POST", "/v2/images", row)
        path = f"/images/{made['id']}"
        talk.ask("DELETE", path, at=at, want=404 if at > 35 else 204)
        if at > 35:
            _image_metadata(ground, f"{path}/metadata")
            talk.ask("DELETE", path, at=1, want=204)
        talk.ask("DELETE", path, at=at, want=404)


def _image_metadata(ground: Ground, path: str) -> None:
    talk = ground.talk
    for at in (1, 38):
        talk.ask("POST", path, {"metadata": {"a": "1"}}, at=at)
        talk.ask("PUT", f"{path}/b", {"meta": {"b": "2"}}, at=at)
        talk.ask("PUT", f"{path}/b", {"meta": {"c": "2"}}, at=at, want=400)
        talk.read(path, f"{path}/b")
        talk.ask("PUT", path, {"metadata": {"d": "4"}}, at=at)
        talk.ask("DELETE", f"{path}/d", at=at, want=204)
        talk.ask("DELETE", f"{path}/d", at=at, want=404)


def networks(ground: Ground) -> None:
    """Networks as they were shown before there was a network service."""
    ground.talk.read(
        *("/os-networks", f"/os-networks/{ground.network}", "/os-networks/no-such"),
        *("/os-tenant-networks", f"/os-tenant-networks/{ground.network}"),
        *("/os-tenant-networks/no-such", "/os-floating-ip-pools"),
    )


def security_groups(ground: Ground) -> None:
    """Security groups and their rules."""
    talk = ground.talk
    for at in AGES:
        group = {"security_group": {"name": f"walk-{at}", "description": "walked over"}}
        made = talk.ask("POST", "/os-security-groups", group, at=at)["security_group"]
        path = f"/os-security-groups/{made['id']}"
        group["security_group"]["name"] = f"walked-{at}"
        talk.ask("PUT", path, group, at=at)
        rule = {
            "parent_group_id": made["id"],
            "ip_protocol": "tcp",
            "from_port": 22,
            "to_port": 22,
            "cidr": "10.0.0.0/8",
        }
        put = talk.ask("POST", "/os-security-group-rules", {"security_group_rule": rule}, at=at)
        inside = {**rule, "group_id": made["id"], "ip_protocol": "icmp"}
        inside |= {"from_port": -1, "to_port": -1}
        del inside["cidr"]
        talk.ask("POST", "/os-security-group-rules", {"security_group_rule": inside}, at=at)
        rule["cidr"] = "not/an/address"
        bad = {"security_group_rule": rule}
        talk.ask("POST", "/os-security-group-rules", bad, at=at, want=400)
        if at == 1:
            talk.read("/os-security-groups", path, "/os-security-groups?limit=1")
            talk.read("/os-security-groups/no-such", want=(400, 404))
        rule_path = f"/os-security-group-rules/{put['security_group_rule']['id']}"
        talk.ask("DELETE", rule_path, at=at, want=202)
        talk.ask("DELETE", rule_path, at=at, want=404)
        talk.ask("DELETE", path, at=at, want=202)
        talk.ask("DELETE", path, at=at, want=404)


def floating(ground: Ground) -> None:
    """Floating addresses, and giving them to a server (to 2.43)."""
    talk = ground.talk
    server = ground.server("floating")
    for at in AGES:
        pool = {"pool": ground.public["name"]}
        made = talk.ask("POST", "/os-floating-ips", pool, at=at)["floating_ip"]
        talk.ask("POST", "/os-floating-ips", {"pool": "no-such"}, at=at, want=404)
        address = {"address": made["ip"]}
        for then in (at, 43):
            talk.act(server, "addFloatingIp", address, at=then)
            talk.read(f"/os-floating-ips/{made['id']}") if at == 1 else None
            talk.act(server, "removeFloatingIp", address, at=then)
        talk.act(server, "addFloatingIp", {"address": "172.24.4.250"}, at=at, want=404)
        talk.read("/os-floating-ips") if at == 1 else None
        talk.ask("DELETE", f"/os-floating-ips/{made['id']}", at=at, want=202)
        talk.ask("DELETE", f"/os-floating-ips/{made['id']}", at=at, want=404)
    talk.act(server, "addFloatingIp", {"address": "172.24.4.250"}, at=44, want=404)
    for at in (1, 43, 44):
        want = 202 if at < 44 else 404
        talk.act(server, "addFixedIp", {"networkId": ground.network}, at=at, want=want)
        talk.until(server, "ACTIVE")
        given = talk.ask("GET", f"/servers/{server}/ips")["addresses"]["walk"]
        address = {"address": given[-1]["addr"]}
        talk.act(server, "removeFixedIp", address, at=at, want=want)
        talk.until(server, "ACTIVE")
    talk.act(server, "removeFixedIp", {"address": "10.77.0.250"}, at=1, want=400)
    ground.drop(server)
