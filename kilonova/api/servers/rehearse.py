"""``POST /servers`` with ``Prefer: dry-run``: where it would go, or why not; nothing is written."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.api import quota_rules
from kilonova.api.explain import HOSTS, reasons
from kilonova.api.servers.accept import Plan, local_image, one
from kilonova.api.servers.parse import ServerRequest
from kilonova.api.servers.resolve import Resolved
from kilonova.context import Context
from kilonova.db.database import Tx
from kilonova.domain.disks import on_volume
from kilonova.domain.explain import OPERATOR, Change, Why
from kilonova.domain.fit import pci
from kilonova.domain.fit.shapes import DeviceRequest
from kilonova.domain.quotas import OverQuota, Rules
from kilonova.domain.request import RequestSpec, Selection, request_of
from kilonova.scheduler.hosts import StoredHosts
from kilonova.scheduler.service import METHOD, TOPIC
from kilonova.store import aggregates
from kilonova.web.call import Reply
from kilonova.workflows.routed import aggregates as aggregates_reached

SECONDS = 20.0


async def rehearse(call: Context, request: ServerRequest, found: Resolved, chosen: Plan) -> Reply:
    """200 with ``fits`` and the places, or with the reasons and the changes that would help."""
    told = await _told(call, request, found, chosen)
    return Reply({"dry_run": told}, status=200, headers={"Preference-Applied": "dry-run"})


async def _told(
    call: Context, request: ServerRequest, found: Resolved, chosen: Plan
) -> dict[str, Any]:
    hosts = call.allows(HOSTS)
    refused: list[Change] = []

    async def within(rules: Rules) -> int:
        try:
            return await call.app.db.read(_within_quota, call, request, found, rules)
        except OverQuota:
            refused[:] = await call.app.db.read(_under_quota, call, request, found, rules)
            raise

    caller = call.caller
    try:
        count = await quota_rules.within(
            call, caller.project_id or "", within, user_id=caller.user_id, counting=True
        )
    except OverQuota as fault:
        why = Why(fault.message, ("quota",), changes=tuple(refused))
        return {"fits": False, **reasons(why, (), hosts=hosts)}
    asked = await _asked(call, request, found, chosen, count)
    selection = await _select(call, asked)
    if not selection.servers and request.least < count:
        fewer = msgspec.structs.replace(asked, servers=asked.servers[: request.least])
        selection = await _select(call, fewer)
    if selection.servers:
        return {"fits": True, "servers": await _places(call, selection, hosts=hosts)}
    why = selection.why or Why(selection.reason if hosts else "There are not enough hosts.")
    return {"fits": False, **reasons(why, selection.cuts, hosts=hosts)}


async def _select(call: Context, asked: RequestSpec) -> Selection:
    return await call.app.bus.call(TOPIC, METHOD, asked, reply=Selection, seconds=SECONDS)


def _within_quota(
    tx: Tx, call: Context, request: ServerRequest, found: Resolved, rules: Rules
) -> int:
    return quota_rules.fit(
        tx,
        rules,
        project_id=call.caller.project_id or "",
        user_id=call.caller.user_id,
        flavor=found.flavor,
        image=local_image(found),
        least=request.least,
        most=request.most,
        locking=False,
    )


def _under_quota(
    tx: Tx, call: Context, request: ServerRequest, found: Resolved, rules: Rules
) -> list[Change]:
    """What would keep the request under its quota, the smallest first."""
    if not rules.stored:
        return [Change("quota", "The limits of the project are higher.", OPERATOR, 1.5)]
    project = call.caller.project_id or ""
    limits = quota_rules.limits(tx, rules, project, call.caller.user_id)
    used = quota_rules.usage(tx, rules, project)
    over = []
    sizes = (("instances", 1, ""), ("cores", found.flavor.vcpus, "VCPU"))
    for name, size, resource in (*sizes, ("ram", found.flavor.memory_mb, "MEMORY_MB")):
        free, need = limits[name] - getattr(used, name), size * request.least
        if limits[name] >= 0 and need > free:
            over.append((name, need - free, resource, size, free // request.least))
    changes = []
    if len(over) == 1 and over[0][4] > 0 and over[0][2]:
        _, _, resource, size, fits = over[0]
        text = f"A flavor with {fits} {resource} is within the quota."
        args = {"resource": resource, "asked": size, "to": fits, "less": size - fits}
        changes.append(
            Change("resource", text, cost=round(0.5 + (size - fits) / size, 3), args=args)
        )
    raised = {name: more for name, more, *_ in over}
    text = "The quota is higher: " + ", ".join(f"{n} by {more}" for n, more in raised.items())
    changes.append(Change("quota", f"{text}.", OPERATOR, 1.5, {"more": raised}))
    return changes


async def _asked(
    call: Context, request: ServerRequest, found: Resolved, chosen: Plan, count: int
) -> RequestSpec:
    """What the scheduler will be asked when the servers are made."""
    made, spec = one(call, request, found, chosen, 0, count)
    group = None
    if spec.group_id is not None:
        groups = StoredHosts(call.app.db, call.app.cells, call.clock)
        group = await groups.group(spec.group_id)
    devices: tuple[DeviceRequest, ...] = ()
    if "pci_passthrough:alias" in found.flavor.extra_specs:
        properties = made.server.image.properties if made.server.image else {}
        known = pci.aliases(call.app.settings.pci.alias)
        devices = pci.requests(found.flavor.extra_specs, properties, known)
    routed: tuple[tuple[str, ...], ...] = ()
    options, placement = call.app.settings.scheduler, call.app.placement
    if options.query_placement_for_routed_network_aggregates and placement is not None:
        routed = await aggregates_reached(call.app.networks, placement, spec.nics)
    asked = request_of(
        made.server,
        spec,
        group=group,
        devices=devices,
        boot_from_volume=on_volume(made.private.disks),
        routed=routed,
    )
    return msgspec.structs.replace(asked, servers=chosen.ids[:count], dry_run=True)


async def _places(call: Context, selection: Selection, *, hosts: bool) -> list[dict[str, Any]]:
    zones = await call.app.db.read(aggregates.zones)
    default = call.app.settings.default.default_availability_zone
    places = []
    for first, *others in selection.servers:
        place: dict[str, Any] = {"availability_zone": zones.get(first.host) or default}
        if hosts:
            place["host"], place["hypervisor_hostname"] = first.host, first.node
            place["alternates"] = [ref.host for ref in others]
        places.append(place)
    return places
