"""``/limits``."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.store import quotas
from kilonova.store.quotas import Usage
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, pick, since, until
from kilonova.web.view import Field, View

ROUTES: Routes[Services] = Routes(prefix="/limits", tag="limits")
LIST = Schema(
    {
        "type": "object",
        "properties": {"tenant_id": {"type": "string"}, "reserved": until(56, {"type": "string"})},
        "additionalProperties": pick(until(74, True), since(75, False)),
    }
)

# What the network service limits is not known here; these old keys show no limit and no use.
_NETWORK = -1


class Shown(msgspec.Struct, frozen=True):
    """Limits and what is used of them."""

    limits: dict[str, int]
    usage: Usage
    groups: int


def _limit(name: str) -> Any:
    return lambda x: x.limits[name]


ABSOLUTE = View(
    "limits",
    [
        Field("maxTotalInstances", _limit("instances")),
        Field("maxTotalCores", _limit("cores")),
        Field("maxTotalRAMSize", _limit("ram")),
        Field("maxTotalKeypairs", _limit("key_pairs")),
        Field("maxServerMeta", _limit("metadata_items")),
        Field("maxImageMeta", _limit("metadata_items"), until=38),
        Field("maxPersonality", _limit("injected_files"), until=56),
        Field("maxPersonalitySize", _limit("injected_file_content_bytes"), until=56),
        Field("maxServerGroups", _limit("server_groups")),
        Field("maxServerGroupMembers", _limit("server_group_members")),
        Field("maxTotalFloatingIps", lambda x: _NETWORK, until=35),
        Field("maxSecurityGroups", lambda x: _NETWORK, until=35),
        Field("maxSecurityGroupRules", lambda x: _NETWORK, until=35),
        Field("totalRAMUsed", lambda x: x.usage.ram),
        Field("totalCoresUsed", lambda x: x.usage.cores),
        Field("totalInstancesUsed", lambda x: x.usage.instances),
        Field("totalFloatingIpsUsed", lambda x: 0, until=35),
        Field("totalSecurityGroupsUsed", lambda x: 0, until=35),
        Field("totalServerGroupsUsed", lambda x: x.groups),
    ],
)


@ROUTES.get("", policy="os_compute_api:limits", query=LIST, summary="Show limits")
async def show(call: Context) -> dict[str, Any]:
    """Limits and use of the caller's project, or (by policy) of another."""
    project = call.caller.project_id or ""
    other = call.query.get("tenant_id")
    if other is not None and other != project:
        call.enforce("os_compute_api:limits:other_project", {"project_id": other})
        project = other
    shown = await call.app.db.read(_read, call, project)
    return {"limits": {"rate": [], "absolute": ABSOLUTE.render(shown, call.version)}}


def _read(tx: Tx, call: Context, project: str) -> Shown:
    return Shown(
        quotas.limits(tx, call.app.settings.quota.limits(), project),
        quotas.usage(tx, project),
        quotas.groups_used(tx, project),
    )
