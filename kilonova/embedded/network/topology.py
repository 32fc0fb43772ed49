"""A project's way out: a network, a subnet and a router to the default external network."""

from __future__ import annotations

import ipaddress
from typing import Any

from kilonova.base.errors import Conflict
from kilonova.db.database import Tx
from kilonova.embedded.network.api import interfaces, networks, routers, subnets
from kilonova.embedded.network.app import Work
from kilonova.embedded.network.kinds import NETWORK, ROUTER
from kilonova.embedded.network.store import hosts, quotas, rows
from kilonova.embedded.network.store import networks as network_store
from kilonova.embedded.network.store import ports as port_store

NAME = "auto_allocated"


def check(tx: Tx) -> str:
    """The default external network; Conflict when there is none (nothing could be made)."""
    found = network_store.default_external(tx)
    if found is None:
        raise Conflict(
            "Deployment error: No default router:external network.",
            code="AutoAllocationFailure",
        )
    return found


def ensure(job: Work, project_id: str) -> str:
    """The project's automatic network, made when it is not there."""
    quotas.lock(job.tx, project_id)
    present = hosts.topology(job.tx, project_id)
    if present is not None and rows.get(job.tx, NETWORK, present["network_id"]) is not None:
        return str(present["network_id"])
    external = check(job.tx)
    network_id, router_id = make(
        job,
        project_id,
        external=external,
        cidr=free_prefix(job),
        names=(f"{NAME}_network", f"{NAME}_subnet_v4", f"{NAME}_router"),
    )
    hosts.set_topology(job.tx, project_id, network_id, router_id)
    return network_id


def make(
    job: Work, project_id: str, *, external: str | None, cidr: str, names: tuple[str, str, str]
) -> tuple[str, str]:
    """A network and a router of these names (network, subnet, router): their ids.

    The router has its gateway in ``external`` and a leg in the network's one subnet.
    """
    common: dict[str, Any] = {"project_id": project_id, "description": ""}
    network = networks.create(
        job,
        {
            "id": job.ids.uuid(),
            "name": names[0],
            "external": False,
            "is_default": False,
            "shared": False,
            **common,
        },
    )
    subnet = subnets.create(
        job,
        {
            "id": job.ids.uuid(),
            "name": names[1],
            "network_id": network["id"],
            "ip_version": 4,
            "cidr": cidr,
            **common,
        },
    )
    gateway = {"network_id": external} if external else None
    router = routers.create(
        job,
        {"id": job.ids.uuid(), "name": names[2], "external_gateway_info": gateway, **common},
    )
    interfaces.add_leg(job, router, subnet["id"])
    return str(network["id"]), str(router["id"])


def remove(job: Work, project_id: str) -> None:
    """Delete the automatic network and router; Conflict while servers use it."""
    present = hosts.topology(job.tx, project_id)
    if present is None:
        return
    router = rows.get(job.tx, ROUTER, present["router_id"])
    if router is not None:
        for leg in port_store.of_device(job.tx, router["id"], port_store.ROUTER):
            port_store.remove(job.tx, leg["id"])
        routers.delete(job, router)
    network = rows.get(job.tx, NETWORK, present["network_id"])
    if network is not None:
        networks.delete(job, network)
    hosts.forget_topology(job.tx, project_id)


def free_prefix(job: Work) -> str:
    """A prefix of the configured range that no subnet overlaps."""
    settings = job.app.settings
    taken = [ipaddress.ip_network(cidr) for cidr in network_store.prefixes(job.tx, 4)]
    for net in ipaddress.ip_network(settings.auto_cidr).subnets(new_prefix=settings.auto_prefix):
        if not any(net.overlaps(other) for other in taken):
            return str(net)
    raise Conflict("No prefix is left for automatic networks.", code="AutoAllocationFailure")
