"""The automatic topology: a network, a subnet and a router to the default external network."""

from __future__ import annotations

import ipaddress
from typing import Any

import sqlalchemy as sa

from kilonova.base.errors import Conflict
from kilonova.db.database import Tx
from kilonova.embedded.network.api import networks, routers, subnets
from kilonova.embedded.network.app import Work
from kilonova.embedded.network.attrs import NETWORK, ROUTER
from kilonova.embedded.network.store import ports as port_store
from kilonova.embedded.network.store import quotas, rows
from kilonova.embedded.network.tables import NETWORKS, SUBNETS, TOPOLOGIES

NAME = "auto_allocated"


def check(tx: Tx) -> str:
    """The default external network; Conflict when there is none (nothing could be made)."""
    statement = sa.select(NETWORKS.c.id).where(NETWORKS.c.external, NETWORKS.c.is_default)
    found: str | None = tx.execute(statement).scalar()
    if found is None:
        raise Conflict(
            "Deployment error: No default router:external network.",
            code="AutoAllocationFailure",
        )
    return found


def ensure(job: Work, project_id: str) -> str:
    """The project's automatic network, made when it is not there."""
    quotas.lock(job.tx, project_id)
    present = _find(job.tx, project_id)
    if present is not None and rows.get(job.tx, NETWORK, present["network_id"]) is not None:
        return str(present["network_id"])
    job.tx.execute(TOPOLOGIES.delete().where(TOPOLOGIES.c.project_id == project_id))
    external = check(job.tx)
    common: dict[str, Any] = {"project_id": project_id, "description": "", "admin_state_up": True}
    network = networks.create(
        job,
        {
            "id": job.ids.uuid(),
            "name": f"{NAME}_network",
            "external": False,
            "is_default": False,
            "shared": False,
            "port_security_enabled": True,
            **common,
        },
    )
    subnet = subnets.create(
        job,
        {
            "id": job.ids.uuid(),
            "name": f"{NAME}_subnet_v4",
            "network_id": network["id"],
            "ip_version": 4,
            "cidr": _prefix(job),
            "enable_dhcp": True,
            "project_id": project_id,
            "description": "",
        },
    )
    router = routers.create(
        job,
        {
            "id": job.ids.uuid(),
            "name": f"{NAME}_router",
            "external_gateway_info": {"network_id": external},
            **common,
        },
    )
    routers.add_leg(job, router, subnet["id"])
    job.tx.execute(
        TOPOLOGIES.insert().values(
            project_id=project_id, network_id=network["id"], router_id=router["id"]
        )
    )
    return str(network["id"])


def remove(job: Work, project_id: str) -> None:
    """Delete the automatic network and router; Conflict while servers use it."""
    present = _find(job.tx, project_id)
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
    job.tx.execute(TOPOLOGIES.delete().where(TOPOLOGIES.c.project_id == project_id))


def _find(tx: Tx, project_id: str) -> dict[str, Any] | None:
    row = tx.execute(sa.select(TOPOLOGIES).where(TOPOLOGIES.c.project_id == project_id)).first()
    return dict(row._mapping) if row is not None else None


def _prefix(job: Work) -> str:
    """A prefix of the configured range that no subnet overlaps."""
    settings = job.app.settings
    taken = [
        ipaddress.ip_network(cidr)
        for cidr in job.tx.execute(
            sa.select(SUBNETS.c.cidr).where(SUBNETS.c.ip_version == 4)
        ).scalars()
    ]
    for net in ipaddress.ip_network(settings.auto_cidr).subnets(new_prefix=settings.auto_prefix):
        if not any(net.overlaps(other) for other in taken):
            return str(net)
    raise Conflict("No prefix is left for automatic networks.", code="AutoAllocationFailure")
