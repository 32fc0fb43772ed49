"""Networks and floating IPs under their old names (to 2.35), passed to the network service.

Source: Nova API reference, "Networks" and "Floating IPs" (deprecated).
"""

from __future__ import annotations

from typing import Any

from kilonova.api.find import is_admin
from kilonova.api.schemas import QUERY_NONE
from kilonova.base.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.context import Context, Services
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers
from kilonova.web.view import Field, View

ROUTES: Routes[Services] = Routes(tag="networks")
LAST = 35
NETWORKS = "os_compute_api:os-networks:"
TENANT = "os_compute_api:os-tenant-networks:"
FLOATING = "os_compute_api:os-floating-ips:"

# What only the network service of old knew is there, and empty.
_EMPTY = (
    "cidr", "netmask", "gateway", "broadcast", "dns1", "dns2", "cidr_v6", "gateway_v6",
    "netmask_v6",
)  # fmt: skip
_EMPTY_FOR_ADMINS = (
    "created_at", "updated_at", "deleted_at", "deleted", "injected", "bridge", "vlan",
    "vpn_public_address", "vpn_public_port", "vpn_private_address", "dhcp_start", "host",
    "bridge_interface", "multi_host", "priority", "rxtx_base", "enable_dhcp", "dhcp_server",
    "share_address",
)  # fmt: skip


def _nothing(_doc: Any) -> None:
    return None


NETWORK = View(
    "network",
    [
        Field("id", lambda d: d["id"]),
        Field("label", lambda d: d.get("name") or ""),
        *(Field(name, _nothing) for name in _EMPTY),
        *(Field(name, _nothing, policy="admin") for name in _EMPTY_FOR_ADMINS),
        Field("mtu", lambda d: d.get("mtu"), policy="admin"),
        Field("project_id", lambda d: d.get("tenant_id"), policy="admin"),
    ],
)
TENANT_NETWORK = View(
    "tenant network",
    [
        Field("id", lambda d: d["id"]),
        Field("cidr", lambda d: "None"),
        Field("label", lambda d: d.get("name") or ""),
    ],
)
POOL = Schema(
    {"type": ["object", "null"], "properties": {"pool": {"type": ["string", "null"]}}},
)


_FLOATING = {
    "id": str,
    "ip": str,
    "fixed_ip": str | None,
    "instance_id": str | None,
    "pool": str,
}


async def _networks(call: Context) -> list[dict[str, Any]]:
    """Those of the project, and the shared ones."""
    token = call.caller.token
    documents = call.app.documents
    own = await documents.find("networks", token=token, tenant_id=call.caller.project_id)
    shared = await documents.find("networks", token=token, shared=True)
    return list({row["id"]: row for row in (*own, *shared)}.values())


async def _network(call: Context, network_id: str) -> dict[str, Any]:
    found = await call.app.documents.show("networks", network_id, token=call.caller.token)
    if found is None:
        raise NotFound("Network not found")
    return found


def _granted(call: Context) -> frozenset[str]:
    return frozenset({"admin"}) if is_admin(call) else frozenset()


@ROUTES.get(
    "/os-networks",
    until=LAST,
    policy=NETWORKS + "list",
    query=QUERY_NONE,
    responses=answers(networks=[NETWORK]),
    summary="List networks",
)
async def index(call: Context) -> dict[str, Any]:
    """Names and ids."""
    rows = await _networks(call)
    return {"networks": NETWORK.render_all(rows, call.version, _granted(call))}


@ROUTES.get(
    "/os-networks/{network_id}",
    until=LAST,
    policy=NETWORKS + "show",
    query=QUERY_NONE,
    responses=answers(network=NETWORK),
    summary="Show a network",
)
async def show(call: Context, network_id: str) -> dict[str, Any]:
    """One network."""
    found = await _network(call, network_id)
    return {"network": NETWORK.render(found, call.version, _granted(call))}


@ROUTES.get(
    "/os-tenant-networks",
    until=LAST,
    policy=TENANT + "list",
    query=QUERY_NONE,
    responses=answers(networks=[TENANT_NETWORK]),
    summary="List the project's networks",
)
async def tenant_index(call: Context) -> dict[str, Any]:
    """Names and ids."""
    return {"networks": TENANT_NETWORK.render_all(await _networks(call))}


@ROUTES.get(
    "/os-tenant-networks/{network_id}",
    until=LAST,
    policy=TENANT + "show",
    query=QUERY_NONE,
    responses=answers(network=TENANT_NETWORK),
    summary="Show one of the project's networks",
)
async def tenant_show(call: Context, network_id: str) -> dict[str, Any]:
    """One network."""
    return {"network": TENANT_NETWORK.render(await _network(call, network_id))}


# --- floating IPs ---------------------------------------------------------------------------------


async def _pools(call: Context) -> dict[str, str]:
    """Id → name of the networks floating IPs come from."""
    rows = await call.app.documents.find(
        "networks", token=call.caller.token, **{"router:external": True}
    )
    return {row["id"]: row.get("name") or row["id"] for row in rows}


@ROUTES.get(
    "/os-floating-ip-pools",
    until=LAST,
    policy="os_compute_api:os-floating-ip-pools",
    query=QUERY_NONE,
    responses=answers(floating_ip_pools=[{"name": str}]),
    summary="List floating IP pools",
)
async def pools(call: Context) -> dict[str, Any]:
    """External networks by name."""
    return {"floating_ip_pools": [{"name": name} for name in (await _pools(call)).values()]}


async def _shown(call: Context, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Floating IPs with the servers they lead to; ports and pools are read at once."""
    ports = tuple(dict.fromkeys(row["port_id"] for row in rows if row.get("port_id")))
    found = await call.app.documents.find("ports", token=None, id=ports) if ports else []
    servers = {port["id"]: port.get("device_id") or None for port in found}
    names = await _pools(call) if rows else {}
    return [
        {
            "id": row["id"],
            "ip": row["floating_ip_address"],
            "fixed_ip": row.get("fixed_ip_address"),
            "instance_id": servers.get(row.get("port_id") or ""),
            "pool": names.get(row["floating_network_id"], row["floating_network_id"]),
        }
        for row in rows
    ]


@ROUTES.get(
    "/os-floating-ips",
    until=LAST,
    policy=FLOATING + "list",
    query=QUERY_NONE,
    responses=answers(floating_ips=[_FLOATING]),
    summary="List floating IPs",
)
async def floating_index(call: Context) -> dict[str, Any]:
    """Those of the project."""
    rows = await call.app.documents.find(
        "floatingips", token=call.caller.token, tenant_id=call.caller.project_id
    )
    return {"floating_ips": await _shown(call, rows)}


@ROUTES.get(
    "/os-floating-ips/{floating_id}",
    until=LAST,
    policy=FLOATING + "show",
    query=QUERY_NONE,
    responses=answers(floating_ip=_FLOATING),
    summary="Show a floating IP",
)
async def floating_show(call: Context, floating_id: str) -> dict[str, Any]:
    """One of them."""
    return {"floating_ip": (await _shown(call, [await _floating(call, floating_id)]))[0]}


async def _floating(call: Context, floating_id: str) -> dict[str, Any]:
    found = await call.app.documents.show("floatingips", floating_id, token=call.caller.token)
    if found is None:
        raise NotFound(f"Floating IP not found for ID {floating_id}")
    return found


@ROUTES.post(
    "/os-floating-ips",
    until=LAST,
    policy=FLOATING + "create",
    body=POOL,
    responses=answers(floating_ip=_FLOATING),
    summary="Allocate a floating IP",
)
async def allocate(call: Context) -> dict[str, Any]:
    """From a pool, or the one of ``[neutron] default_floating_pool``."""
    wanted = (call.body or {}).get("pool") or call.app.settings.neutron.default_floating_pool
    known = await _pools(call)
    network = next((i for i, name in known.items() if wanted in (i, name)), None)
    if network is None:
        raise NotFound("Floating IP pool not found.")
    values = {"floating_network_id": network, "tenant_id": call.caller.project_id}
    try:
        made = await call.app.documents.create("floatingips", values, token=call.caller.token)
    except Conflict as error:
        if "quota" in error.message.lower():
            raise Forbidden(f"IP allocation over quota in pool {wanted}.") from None
        raise NotFound(f"No more floating IPs in pool {wanted}.") from None
    return {"floating_ip": (await _shown(call, [made]))[0]}


@ROUTES.delete(
    "/os-floating-ips/{floating_id}",
    until=LAST,
    status=202,
    policy=FLOATING + "delete",
    summary="Give a floating IP back",
)
async def release(call: Context, floating_id: str) -> None:
    """It leads nowhere any more."""
    if len(floating_id) > 64:
        raise BadRequest("Invalid floating IP id.")
    await _floating(call, floating_id)
    await call.app.documents.delete("floatingips", floating_id, token=call.caller.token)
