"""The statements about servers that every build and every request runs."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db.prepared import Prepared
from kilonova.db.tables.api import build_requests, instance_mappings, request_specs
from kilonova.db.tables.cell import (
    disks,
    fixed_ips,
    guest_holds,
    instance_faults,
    instances,
    nics,
    share_mappings,
    tags,
)

OF_SERVER: sa.BindParameter[str] = sa.bindparam("server_key")
ACCEPTED = Prepared(
    sa.select(instance_mappings.c.server_id).where(
        instance_mappings.c.server_id.in_(sa.bindparam("servers", expanding=True))
    )
)
ADD_MAPPING = Prepared(instance_mappings.insert())
ADD_REQUEST = Prepared(build_requests.insert())
ADD_SPEC = Prepared(request_specs.insert())
REQUEST = Prepared(
    sa.select(build_requests.c.request).where(build_requests.c.server_id == OF_SERVER)
)
CHANGEABLE_REQUEST = Prepared(
    sa.select(build_requests.c.request)
    .join(instance_mappings, instance_mappings.c.server_id == build_requests.c.server_id)
    .where(build_requests.c.server_id == OF_SERVER, instance_mappings.c.cell_id.is_(None))
    .with_for_update()
)
CHANGE_REQUEST = Prepared(build_requests.update().where(build_requests.c.server_id == OF_SERVER))
ADD = Prepared(instances.insert())
CHANGE = Prepared(instances.update().where(instances.c.uuid == OF_SERVER))
ADD_DISK = Prepared(disks.insert())
ADD_NIC = Prepared(nics.insert())
ADD_ADDRESS = Prepared(fixed_ips.insert())
DROP = {
    table: Prepared(table.delete().where(table.c.server_id == OF_SERVER))
    for table in (tags, disks, nics, fixed_ips, instance_faults)
}
PRIVATE_COLUMNS = Prepared(
    sa.select(
        instances.c.user_data,
        instances.c.key_type,
        instances.c.public_key,
        instances.c.system,
        guest_holds.c.held,
        sa.exists().where(share_mappings.c.server_id == OF_SERVER).label("shares"),
    )
    .outerjoin(
        guest_holds,
        sa.and_(
            guest_holds.c.server_id == instances.c.uuid, guest_holds.c.host == instances.c.host
        ),
    )
    .where(instances.c.uuid == OF_SERVER)
)
DISKS = Prepared(
    sa.select(disks.c.disk).where(disks.c.server_id == OF_SERVER).order_by(disks.c.position)
)
NICS = Prepared(
    sa.select(nics.c.nic).where(nics.c.server_id == OF_SERVER).order_by(nics.c.position)
)
