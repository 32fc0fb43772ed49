"""``/limits``."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.api import quota_rules
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain.quotas import NOOP, UNLIMITED, Rules
from kilonova.store import quotas
from kilonova.store.quotas import Usage
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, pick, since, until
from kilonova.web.view import Field, View

ROUTES: Routes[Services] = Routes(prefix="/limits", tag="limits")
LIST = Schema(
    {
        "type": "object",
        "properties": {"tenant_id": {"type": "string"}, "reserved": until(56, {"type": "string"})},
        "additionalProperties": pick(until(74, True), since(75, False)),
    }
)


class Shown(msgspec.Struct, frozen=True):
    """Limits and what is used of them; of what the network service has nothing is known."""

    limits: dict[str, int]
    usage: Usage
    groups: int
    of_network: int = 0


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
        Field("maxTotalFloatingIps", _limit("floating_ips"), until=35),
        Field("maxSecurityGroups", _limit("security_groups"), until=35),
        Field("maxSecurityGroupRules", _limit("security_group_rules"), until=35),
        Field("totalRAMUsed", lambda x: x.usage.ram),
        Field("totalCoresUsed", lambda x: x.usage.cores),
        Field("totalInstancesUsed", lambda x: x.usage.instances),
        Field("totalFloatingIpsUsed", lambda x: x.of_network, until=35),
        Field("totalSecurityGroupsUsed", lambda x: x.of_network, until=35),
        Field("totalServerGroupsUsed", lambda x: x.groups),
    ],
)


@ROUTES.get(
    "",
    policy="os_compute_api:limits",
    responses=answers(limits={"type": "object", "required": ["rate", "absolute"]}),
    query=LIST,
    summary="Show limits",
)
async def show(call: Context) -> dict[str, Any]:
    """Limits and use of the caller's project, or (by policy) of the one of ``tenant_id``."""
    project = call.caller.project_id or ""
    other = call.query.get("tenant_id")
    if other is not None:
        call.enforce("os_compute_api:limits:other_project")
        project = other
    rules = await quota_rules.load(call, project, counting=True)
    shown = await call.app.db.read(_read, rules, project)
    return {"limits": {"rate": [], "absolute": ABSOLUTE.render(shown, call.version)}}


def _read(tx: Tx, rules: Rules, project: str) -> Shown:
    found = quota_rules.limits(tx, rules, project, shown=True)
    if rules.driver == NOOP:
        return Shown(found, Usage(UNLIMITED, UNLIMITED, UNLIMITED), UNLIMITED, UNLIMITED)
    groups = quotas.groups_used(tx, project)
    return Shown(found, quota_rules.usage(tx, rules, project), groups)
