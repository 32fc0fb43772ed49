"""Our own interface between the service and the data planes of the hosts (``/ext/hosts``).

A host announces itself, fetches its plan (waiting until it changes), and reports which ports it
has opened. Only services and administrators may.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import msgspec

from kilonova.base.clock import isoformat
from kilonova.base.errors import Conflict
from kilonova.db.database import Tx
from kilonova.embedded.network import binding, planner, rules
from kilonova.embedded.network.api import ports as port_api
from kilonova.embedded.network.app import NetworkApp, NetworkCall, Work
from kilonova.embedded.network.store import addresses, hosts, networks, planning, rows
from kilonova.embedded.network.store import ports as port_store
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers

log = logging.getLogger(__name__)

ROUTES: Routes[NetworkApp] = Routes(prefix="/ext/hosts/{host}", tag="hosts")

HOST = Schema(
    {
        "type": "object",
        "properties": {
            "mode": {"enum": ["bridge", "user", "none"]},
            "vtep_ip": {"type": ["string", "null"], "maxLength": 64},
        },
        "required": ["mode"],
        "additionalProperties": False,
    }
)
PORT_IDS = {"type": "array", "maxItems": 2000, "items": {"type": "string", "maxLength": 36}}
OPENED = Schema(
    {
        "type": "object",
        "properties": {"opened": PORT_IDS, "closed": PORT_IDS},
        "required": ["opened"],
        "additionalProperties": False,
    }
)
LONGEST_WAIT = 30.0


class Made(msgspec.Struct, frozen=True):
    """A plan as JSON, its version (of the content), and networks that lack a DHCP port."""

    plan: bytes
    version: str
    missing: tuple[str, ...]


@ROUTES.put("", policy="host_plane", body=HOST, status=204)
async def announce(call: NetworkCall, host: str) -> None:
    """The host lives, plugs cards in this way, and has this tunnel address."""
    mode, vtep = call.body["mode"], call.body.get("vtep_ip")
    if vtep is not None:
        vtep = str(rules.address(vtep, "vtep_ip"))
    now = isoformat(call.clock.now())
    host_id = call.ids.uuid()

    def work(tx: Tx) -> bool:
        return hosts.announce(tx, host, host_id=host_id, mode=mode, vtep_ip=vtep, now=now)

    changed = await call.app.run(work)
    if changed:
        call.app.touch()


@ROUTES.get(
    "/plan", policy="host_plane", responses=answers(version=str, plan={"type": ["object", "null"]})
)
async def plan(call: NetworkCall, host: str) -> dict[str, Any]:
    """What the host's data plane should look like, with its ``version``.

    ``?after=VERSION&wait=SECONDS`` answers as soon as it is another one, at the latest after that
    time (30 seconds by default and at most). ``boot`` tells one run of the service from another:
    a host then reports its ports anew.
    """
    app = call.app
    after = call.query.get("after")
    wait = call.query.number("wait")
    deadline = call.clock.monotonic() + min(LONGEST_WAIT, LONGEST_WAIT if wait is None else wait)
    while True:
        changes = app.changes
        made = await app.db.read(_make, app, host)
        if made.missing:
            await app.write(call.caller, lambda job, m=made: _serve(job, m.missing))  # type: ignore[misc]
            made = await app.db.read(_make, app, host)
        left = deadline - call.clock.monotonic()
        if made.version != after or not await app.beyond(changes, left):
            return {"plan": msgspec.Raw(made.plan), "version": made.version, "boot": app.boot}


@ROUTES.put("/ports", policy="host_plane", body=OPENED, status=204)
async def opened(call: NetworkCall, host: str) -> None:
    """These ports of the host are open (their cards are there and their rules in force)."""

    def work(job: Work) -> None:
        for port_ids, status, name in (
            (call.body["opened"], "ACTIVE", "network-vif-plugged"),
            (call.body.get("closed", []), "DOWN", "network-vif-unplugged"),
        ):
            for port in port_store.of_host(job.tx, host, port_ids):
                if port["status"] != status:
                    port_store.set_status(job.tx, port["id"], status)
                    job.events += binding.event(port, name)

    await call.app.write(call.caller, work)


def _make(tx: Tx, app: NetworkApp, host: str) -> Made:
    cloud = planning.read(tx)
    encoded = msgspec.json.encode(planner.plan(cloud, host, app.settings))
    missing = planner.missing_dhcp(cloud) if planner.central(cloud, host) else []
    version = hashlib.sha256(encoded).hexdigest()[:32]
    return Made(encoded, version, tuple(missing))


def _serve(job: Work, network_ids: tuple[str, ...]) -> None:
    """Give each network's DHCP port an address in every served subnet that has one left."""
    for network_id in network_ids:
        networks.lock(job.tx, network_id)
        present = port_store.of_network(job.tx, network_id, port_store.DHCP)
        port = present[0] if present else None
        has = {ip["subnet_id"] for ip in port["fixed_ips"]} if port else set()
        wanted = [
            {"subnet_id": s["id"]}
            for s in networks.subnets(job.tx, [network_id])
            if s["enable_dhcp"] and s["id"] not in has
        ]
        for item in wanted:
            try:
                if port is None:
                    with job.tx.begin_nested():
                        port = port_api.make(
                            job,
                            network_id=network_id,
                            device_id=f"dhcp-{network_id}",
                            device_owner=port_store.DHCP,
                            fixed_ips=[item],
                        )
                else:
                    addresses.allocate(job.tx, port, [item], random=job.app.random)
                    rows.update(
                        job.tx, port_api.PORT_RESOURCE.kind, port, {"fixed_ips": []}, job.now
                    )
            except Conflict as error:
                log.warning("subnet %s has no DHCP: %s", item["subnet_id"], error)
