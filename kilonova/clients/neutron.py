"""Networks from any Neutron v2.0."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, Conflict, Forbidden, NotFound, Unavailable
from kilonova.clients.keystone import Endpoint, expect, reason
from kilonova.domain.guest import FixedIp, Nic
from kilonova.interfaces.network import Network, NewPort, Port
from kilonova.web.client import Answer

OWNER = "compute:"
BROKEN = "binding_failed"
MARK = "made for a server: "
DNS = "dns-integration"
BINDINGS = "binding-extended"
COMING = "migrating_to"


class Neutron:
    """A network service behind its HTTP API; implements ``interfaces.network.NetworkService``."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._extensions: frozenset[str] | None = None

    async def networks(
        self, *, token: str, project_id: str, ids: tuple[str, ...] = (), sees_all: bool = True
    ) -> list[Network]:
        if ids:
            rows = await self._list("networks", token=token, id=ids)
            return [network(row) for row in rows]
        if not sees_all:
            # Others are shown their own, the shared, and besides only the external ones.
            shown = [network(row) for row in await self._list("networks", token=token)]
            own_ones = [one for one in shown if not one.shared and one.project_id == project_id]
            return [*own_ones, *(one for one in shown if one.shared)]
        own, shared = await asyncio.gather(
            self._list("networks", token=token, tenant_id=project_id, shared=False),
            self._list("networks", token=token, shared=True),
        )
        return [network(row) for row in (*own, *shared)]

    async def ports(
        self,
        *,
        ids: tuple[str, ...] = (),
        server_id: str = "",
        network_id: str = "",
        address: str = "",
    ) -> list[Port]:
        wanted: dict[str, Any] = {"id": ids} if ids else {"device_id": server_id}
        if address:
            wanted = {"network_id": network_id, "fixed_ips": f"ip_address={address}"}
        return [port(row) for row in await self._list("ports", **wanted)]

    async def segments(self, network_id: str, *, subnets: tuple[str, ...] = ()) -> list[str]:
        rows = await self._list("subnets", network_id=network_id)
        wanted = (row for row in rows if not subnets or row["id"] in subnets)
        return list(_unique(row["segment_id"] for row in wanted if row.get("segment_id")))

    async def compute_ports(self) -> list[Port]:
        ports = [port(row) for row in await self._list("ports")]
        return [one for one in ports if one.device_id and one.device_owner.startswith(OWNER)]

    async def security_groups(
        self, *, token: str, project_id: str, names: tuple[str, ...]
    ) -> dict[str, str]:
        rows = await self._list("security-groups", token=token, tenant_id=project_id)
        found: dict[str, str] = {}
        for name in names:
            by_id = [row["id"] for row in rows if row["id"] == name]
            by_name = [row["id"] for row in rows if row["name"] == name]
            if not by_id and len(by_name) > 1:
                raise Conflict(
                    f"Several security groups are named {name}; use an id to be specific."
                )
            for group in (by_id or by_name)[:1]:
                found[name] = group
        return found

    async def auto_network(self, *, token: str, project_id: str, dry_run: bool) -> str:
        params = {"fields": "dry-run"} if dry_run else None
        answer = await self._endpoint.request(
            "GET",
            f"/v2.0/auto-allocated-topology/{project_id}",
            token=None if dry_run else token,
            params=params,
        )
        if answer.status in (404, 409):
            raise BadRequest(f"No network can be allocated automatically: {reason(answer)}")
        doc = expect(answer, 200, what="Automatic network")
        topology = doc["auto_allocated_topology"]
        return "" if dry_run else str(topology["id"])

    async def create_port(self, port: NewPort) -> Port:
        for present in () if port.first else await self.ports(server_id=port.server_id):
            if present.mark == port.mark:
                return present
        body: dict[str, Any] = {
            "network_id": port.network_id,
            "tenant_id": port.project_id,
            "device_id": port.server_id,
            "device_owner": f"{OWNER}{port.availability_zone}",
            "description": MARK + port.mark,
            "admin_state_up": True,
        }
        if port.name:
            body["name"] = port.name
        if port.fixed_ip:
            body["fixed_ips"] = [{"ip_address": port.fixed_ip}]
        if port.security_groups is not None:
            body["security_groups"] = list(port.security_groups)
        if port.dns_name:
            body |= await self._named(port.dns_name)
        answer = await self._endpoint.request("POST", "/v2.0/ports", json={"port": body})
        return _port(answer, 201, what="A port could not be made")

    async def delete_made_ports(self, server_id: str, *, mark: str | None = None) -> None:
        for present in await self.ports(server_id=server_id):
            if present.mark and mark in (None, present.mark):
                await self.delete_port(present.id)

    async def claim_port(
        self, port_id: str, *, server_id: str, availability_zone: str, dns_name: str = ""
    ) -> Port:
        present = await self._port(port_id)
        if present is None:
            raise NotFound(f"Port {port_id} could not be found.")
        if present.device_id and present.device_id != server_id:
            raise Conflict(f"Port {port_id} is still in use.")
        changes = {"device_id": server_id, "device_owner": f"{OWNER}{availability_zone}"}
        if dns_name:
            changes |= await self._named(dns_name)
        return await self._update(port_id, changes)

    async def bind_port(self, port_id: str, *, host: str) -> Port:
        bound = await self._update(port_id, {"binding:host_id": host})
        if bound.vif_type == BROKEN:
            raise Unavailable(f"Binding failed for port {port_id} on its host.")
        return bound

    async def bind_also(self, nic: Nic, *, host: str) -> Nic:
        if not await self._has(BINDINGS):
            # An older service is told by the binding's profile, and gives the card as it is.
            await self._coming(nic.port_id, host)
            return nic
        path = f"/v2.0/ports/{nic.port_id}/bindings"
        wanted = {"binding": {"host": host, "vnic_type": nic.vnic_type, "profile": {}}}
        answer = await self._endpoint.request("POST", path, json=wanted)
        if answer.status == 409:
            answer = await self._endpoint.request("GET", path, params={"host": host})
            row = expect(answer, 200, what=f"Bindings of port {nic.port_id}")["bindings"][0]
        else:
            row = expect(answer, 201, what=f"Port {nic.port_id} could not be bound")["binding"]
        if row.get("vif_type") == BROKEN:
            raise Unavailable(f"Binding failed for port {nic.port_id} on its host.")
        return there(nic, row)

    async def activate_binding(self, port_id: str, *, host: str) -> None:
        if not await self._has(BINDINGS):
            await self._coming(port_id, "", host=host)
            return
        present = await self._port(port_id)
        if present is None:
            raise NotFound(f"Port {port_id} could not be found.")
        if present.host == host:
            return
        path = f"/v2.0/ports/{port_id}/bindings"
        answer = await self._endpoint.request("PUT", f"{path}/{host}/activate")
        expect(answer, 200, what=f"The binding of port {port_id} could not be activated")
        await self.drop_binding(port_id, host=present.host)

    async def drop_binding(self, port_id: str, *, host: str) -> None:
        if not await self._has(BINDINGS):
            with contextlib.suppress(NotFound):
                await self._coming(port_id, "")
            return
        answer = await self._endpoint.request("DELETE", f"/v2.0/ports/{port_id}/bindings/{host}")
        if answer.status != 404:
            expect(answer, 204, what=f"A binding of port {port_id} could not be ended")

    async def _coming(self, port_id: str, to: str, **more: str) -> None:
        """Say in the profile where the port is about to go ('': nowhere)."""
        answer = await self._endpoint.request("GET", f"/v2.0/ports/{port_id}")
        row = expect(answer, 200, what=f"Port {port_id}")["port"]
        profile = dict(row.get("binding:profile") or {})
        profile.pop(COMING, None)
        if to:
            profile[COMING] = to
        changes = {"binding:profile": profile, **{f"binding:{k}_id": v for k, v in more.items()}}
        await self._update(port_id, changes)

    async def unbind_port(self, port_id: str) -> None:
        changes = {"device_id": "", "device_owner": "", "binding:host_id": ""}
        try:
            await self._update(port_id, changes | await self._named(""))
        except NotFound:
            return

    async def leave_host(self, port_id: str) -> None:
        try:
            await self._update(port_id, {"binding:host_id": ""})
        except NotFound:
            return

    async def delete_port(self, port_id: str) -> None:
        answer = await self._endpoint.request("DELETE", f"/v2.0/ports/{port_id}")
        if answer.status != 404:
            expect(answer, 204, what=f"Port {port_id} could not be deleted")

    async def nics(
        self, server_id: str, port_ids: tuple[str, ...], *, new: bool = False
    ) -> list[Nic]:
        rows = await self._list("ports", device_id=server_id)
        by_id = {row["id"]: row for row in rows}
        chosen = [by_id[i] for i in port_ids if i in by_id] if port_ids else rows
        if not chosen:
            return []
        networks, subnets, floating = await asyncio.gather(
            self._list("networks", id=_unique(row["network_id"] for row in chosen)),
            self._list(
                "subnets",
                id=_unique(ip["subnet_id"] for row in chosen for ip in row["fixed_ips"]),
            ),
            self._list("floatingips", port_id=() if new else _unique(r["id"] for r in chosen)),
        )
        nets = {row["id"]: row for row in networks}
        subs = {row["id"]: row for row in subnets}
        return [nic(row, nets.get(row["network_id"], {}), subs, floating) for row in chosen]

    async def _named(self, name: str) -> dict[str, str]:
        """What gives a port a DNS name; nothing where the service knows none."""
        return {"dns_name": name} if await self._has(DNS) else {}

    async def _has(self, extension: str) -> bool:
        if self._extensions is None:
            rows = await self._list("extensions")
            self._extensions = frozenset(row["alias"] for row in rows)
        return extension in self._extensions

    async def _port(self, port_id: str) -> Port | None:
        answer = await self._endpoint.request("GET", f"/v2.0/ports/{port_id}")
        if answer.status == 404:
            return None
        return _port(answer, 200, what=f"Port {port_id}")

    async def _update(self, port_id: str, changes: dict[str, Any]) -> Port:
        answer = await self._endpoint.request(
            "PUT", f"/v2.0/ports/{port_id}", json={"port": changes}
        )
        return _port(answer, 200, what=f"Port {port_id} could not be changed")

    async def _list(
        self, collection: str, *, token: str | None = None, **filters: Any
    ) -> list[dict[str, Any]]:
        params: dict[str, Any] = {}
        for key, value in filters.items():
            if isinstance(value, tuple) and not value:
                return []
            params[key] = list(value) if isinstance(value, tuple) else value
        answer = await self._endpoint.request(
            "GET", f"/v2.0/{collection}", token=token, params=params
        )
        doc = expect(answer, 200, what=f"Listing {collection}")
        rows: list[dict[str, Any]] = doc[collection.replace("-", "_")]
        return rows


def network(row: dict[str, Any]) -> Network:
    """A network document as our Struct."""
    return Network(
        id=row["id"],
        name=row.get("name") or "",
        project_id=row.get("tenant_id") or row.get("project_id") or "",
        shared=bool(row.get("shared")),
        external=bool(row.get("router:external")),
        mtu=row.get("mtu") or 1500,
        port_security=row.get("port_security_enabled", True),
        subnets=tuple(row.get("subnets", ())),
    )


def port(row: dict[str, Any]) -> Port:
    """A port document as our Struct."""
    return Port(
        id=row["id"],
        network_id=row["network_id"],
        project_id=row.get("tenant_id") or row.get("project_id") or "",
        mac=row["mac_address"],
        status=row.get("status", "DOWN"),
        device_id=row.get("device_id") or "",
        device_owner=row.get("device_owner") or "",
        host=row.get("binding:host_id") or "",
        vif_type=row.get("binding:vif_type") or "unbound",
        vnic_type=row.get("binding:vnic_type") or "normal",
        ips=tuple((ip["ip_address"], ip["subnet_id"]) for ip in row.get("fixed_ips", ())),
        security_groups=tuple(row.get("security_groups", ())),
        name=row.get("name") or "",
        mark=(row.get("description") or "").partition(MARK)[2],
        ip_allocation=row.get("ip_allocation") or "immediate",
        resource_request=bool(row.get("resource_request")),
    )


def nic(
    row: dict[str, Any],
    net: dict[str, Any],
    subnets: dict[str, dict[str, Any]],
    floating: list[dict[str, Any]],
) -> Nic:
    """A bound port with its network and subnets as a guest's network card."""
    details = row.get("binding:vif_details") or {}
    ips = []
    for ip in row["fixed_ips"]:
        subnet = subnets.get(ip["subnet_id"])
        if subnet is None:
            continue
        ips.append(
            FixedIp(
                address=ip["ip_address"],
                subnet_id=subnet["id"],
                cidr=subnet["cidr"],
                version=subnet["ip_version"],
                gateway=subnet.get("gateway_ip"),
                dns=tuple(subnet.get("dns_nameservers", ())),
                routes=tuple(
                    (r["destination"], r["nexthop"]) for r in subnet.get("host_routes", ())
                ),
                dhcp=bool(subnet.get("enable_dhcp", True)),
                ipv6_mode=subnet.get("ipv6_address_mode"),
                floating=tuple(
                    f["floating_ip_address"]
                    for f in floating
                    if f["port_id"] == row["id"] and f["fixed_ip_address"] == ip["ip_address"]
                ),
            )
        )
    return Nic(
        port_id=row["id"],
        mac=row["mac_address"],
        network_id=row["network_id"],
        network_label=net.get("name") or "",
        vif_type=row.get("binding:vif_type") or "unbound",
        vnic_type=row.get("binding:vnic_type") or "normal",
        device=details.get("tap_name") or f"tap{row['id'][:11]}",
        bridge=details.get("bridge_name") or f"brq{row['network_id'][:11]}",
        mtu=net.get("mtu") or 1500,
        ips=tuple(ips),
        details=details,
        project_id=row.get("tenant_id") or "",
    )


def there(card: Nic, row: dict[str, Any]) -> Nic:
    """A card as another binding of its port makes it."""
    details = row.get("vif_details") or {}
    return msgspec.structs.replace(
        card,
        vif_type=row.get("vif_type") or card.vif_type,
        device=details.get("tap_name") or card.device,
        bridge=details.get("bridge_name") or card.bridge,
        details=details,
    )


def _port(answer: Answer, status: int, *, what: str) -> Port:
    if answer.status == 409 and "quota" in reason(answer).lower():
        raise Forbidden("Maximum number of ports exceeded")
    return port(expect(answer, status, what=what)["port"])


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
