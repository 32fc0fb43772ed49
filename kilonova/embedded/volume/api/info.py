"""What there is beside volumes: quotas, limits, zones, services, pools, transfers, extensions."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from kilonova.base.errors import BadRequest, NotFound
from kilonova.db.database import Tx
from kilonova.embedded.volume import query, views
from kilonova.embedded.volume.app import Volumes, expect_status, show, visible
from kilonova.embedded.volume.records import Transfer, Volume, VolumeType
from kilonova.embedded.volume.rules import is_admin
from kilonova.embedded.volume.schemas import (
    ACCEPT_TRANSFER,
    CREATE_TRANSFER,
    QUOTA_CLASS,
    QUOTA_SET,
)
from kilonova.embedded.volume.store import quotas, rows
from kilonova.web.call import Call
from kilonova.web.routes import Routes

routes: Routes[Volumes] = Routes(tag="information")
transfers: Routes[Volumes] = Routes(tag="transfers")


@routes.get("/os-quota-sets/{project_id}")
async def quota(call: Call[Volumes], project_id: str) -> dict[str, Any]:
    """Limits of a project, with ``usage`` what it has."""
    call.enforce("volume:quota_show", {"project_id": project_id})
    use = call.query.flag("usage")

    def work(tx: Tx) -> tuple[dict[str, int], dict[str, int], list[VolumeType]]:
        most = quotas.limits(tx, call.app.settings, project_id)
        return most, quotas.usage(tx, project_id), rows.where(tx, VolumeType)

    most, used, kinds = await call.app.db.read(work)
    shown = views.quotas(most, kinds)
    if use:
        full = {
            name: {"limit": value, "in_use": used.get(name, 0), "reserved": 0, "allocated": 0}
            for name, value in shown.items()
        }
        return {"quota_set": {"id": project_id, **full}}
    return {"quota_set": {"id": project_id, **shown}}


@routes.get("/os-quota-sets/{project_id}/defaults")
async def quota_defaults(call: Call[Volumes], project_id: str) -> dict[str, Any]:
    """Limits of projects that have none of their own."""
    call.enforce("volume:quota_show", {"project_id": project_id})
    found = await call.app.db.read(quotas.defaults, call.app.settings)
    kinds = await call.app.db.read(rows.where, VolumeType)
    return {"quota_set": {"id": project_id, **views.quotas(found, kinds)}}


def _limits(given: dict[str, Any]) -> dict[str, int]:
    values = {k: int(v) for k, v in given.items() if k not in ("tenant_id", "force", "skip_check")}
    unknown = [name for name in values if name not in quotas.RESOURCES]
    if any(not name.startswith(("volumes_", "gigabytes_", "snapshots_")) for name in unknown):
        raise BadRequest(f"Invalid key(s) in quota set: {', '.join(sorted(unknown))}")
    return {name: value for name, value in values.items() if name in quotas.RESOURCES}


@routes.put("/os-quota-sets/{project_id}", body=QUOTA_SET, policy="volume:quota_update")
async def set_quota(call: Call[Volumes], project_id: str) -> dict[str, Any]:
    """Set limits of a project."""
    values = _limits(call.body["quota_set"])
    await call.app.db.run(quotas.put, project_id, values)
    shown = (await quota(call, project_id))["quota_set"]
    return {"quota_set": {name: value for name, value in shown.items() if name != "id"}}


@routes.delete("/os-quota-sets/{project_id}", policy="volume:quota_update")
async def reset_quota(call: Call[Volumes], project_id: str) -> None:
    """Forget a project's own limits."""
    await call.app.db.run(quotas.reset, project_id)


@routes.get("/os-quota-class-sets/{name}", policy="volume:quota_update")
async def quota_class(call: Call[Volumes], name: str) -> dict[str, Any]:
    """The default limits."""
    found = await call.app.db.read(quotas.defaults, call.app.settings)
    return {"quota_class_set": {"id": name, **found}}


@routes.put("/os-quota-class-sets/{name}", body=QUOTA_CLASS, policy="volume:quota_update")
async def set_quota_class(call: Call[Volumes], name: str) -> dict[str, Any]:
    """Set the default limits."""
    await call.app.db.run(quotas.put, f"class:{name}", _limits(call.body["quota_class_set"]))
    found = await call.app.db.read(quotas.defaults, call.app.settings)
    return {"quota_class_set": found}


@routes.get("/limits", policy="volume:get")
async def limits(call: Call[Volumes]) -> dict[str, Any]:
    """The caller's limits and what is used of them."""
    project = call.caller.project_id or ""
    if is_admin(call.caller):
        project = call.query.get("project_id") or call.query.get("tenant_id") or project

    def work(tx: Tx) -> tuple[dict[str, int], dict[str, int]]:
        return quotas.limits(tx, call.app.settings, project), quotas.usage(tx, project)

    most, used = await call.app.db.read(work)
    absolute = {
        "maxTotalVolumes": most["volumes"],
        "maxTotalSnapshots": most["snapshots"],
        "maxTotalVolumeGigabytes": most["gigabytes"],
        "maxTotalBackups": most["backups"],
        "maxTotalBackupGigabytes": most["backup_gigabytes"],
        "totalVolumesUsed": used["volumes"],
        "totalSnapshotsUsed": used["snapshots"],
        "totalGigabytesUsed": used["gigabytes"],
        "totalBackupsUsed": 0,
        "totalBackupGigabytesUsed": 0,
    }
    return {"limits": {"rate": [], "absolute": absolute}}


@routes.get("/os-availability-zone", policy="volume:get")
async def zones(call: Call[Volumes]) -> dict[str, Any]:
    """The one zone."""
    zone = {"zoneName": call.app.settings.zone, "zoneState": {"available": True}}
    return {"availabilityZoneInfo": [zone]}


@routes.get("/os-services", policy="volume:services")
async def services(call: Call[Volumes]) -> dict[str, Any]:
    """What runs here, as clients know it."""
    now = views.time(call.app.clock.now())
    host = call.app.settings.host
    found = []
    for binary, where in (
        ("cinder-scheduler", host),
        ("cinder-volume", f"{host}@{call.app.settings.backend}"),
    ):
        row: dict[str, Any] = {
            "binary": binary,
            "host": where,
            "zone": call.app.settings.zone,
            "status": "enabled",
            "state": "up",
            "updated_at": now,
            "disabled_reason": None,
        }
        if binary == "cinder-volume":
            row |= {"frozen": False, "replication_status": "disabled", "active_backend_id": None}
        if call.version >= 7:
            row["cluster"] = None
        found.append(row)
    wanted = call.query.get("binary")
    at = call.query.get("host")
    shown = [row for row in found if wanted in (None, row["binary"]) and at in (None, row["host"])]
    return {"services": shown}


@routes.get("/scheduler-stats/get_pools", policy="volume:services")
async def pools(call: Call[Volumes]) -> dict[str, Any]:
    """The one back end."""
    row: dict[str, Any] = {"name": call.app.host}
    if call.query.flag("detail"):
        row["capabilities"] = {
            "volume_backend_name": call.app.settings.backend,
            "storage_protocol": "local",
            "multiattach": True,
            "driver_version": "1.0",
        }
    return {"pools": [row]}


@routes.get("/extensions", policy="volume:get")
async def extensions(call: Call[Volumes]) -> dict[str, Any]:
    """What older clients look for before they use it."""
    names = (
        "os-volume-transfer", "os-volume-manage", "os-quota-sets", "os-services",
        "os-availability-zone", "os-types-extra-specs", "os-volume-type-access",
        "os-extended-snapshot-attributes", "os-volume-actions", "os-admin-actions",
    )  # fmt: skip
    when = "2011-08-25T00:00:00+00:00"
    rows_ = [{"name": n, "alias": n, "description": n, "updated": when, "links": []} for n in names]
    return {"extensions": rows_}


for _path in ("/backups", "/backups/detail"):

    @routes.get(_path, policy="volume:get")
    async def _backups(call: Call[Volumes]) -> dict[str, Any]:
        return {"backups": []}


# -- transfers -----------------------------------------------------------------------------------


def _hash(salt: str, key: str) -> str:
    return hashlib.blake2b(key.encode(), salt=salt.encode()[:16]).hexdigest()


async def _offer(call: Call[Volumes]) -> dict[str, Any]:
    """Offer a volume to whoever knows the key."""
    given = call.body["transfer"]
    volume_id = given["volume_id"]
    await show(call, Volume, volume_id, "volume:transfer")
    key, salt, made_id = call.ids.token(12), call.ids.token(12), call.ids.uuid()

    def work(tx: Tx) -> Transfer:
        item = visible(tx, Volume, volume_id, call.caller, lock=True)
        expect_status(item, ("available",), "transfer")
        made = Transfer(
            id=made_id,
            volume_id=volume_id,
            project_id=item.project_id,
            name=given.get("name"),
            salt=salt,
            hash=_hash(salt, key),
            created_at=call.app.clock.now(),
        )
        rows.create(tx, made)
        rows.change(tx, Volume, volume_id, status="awaiting-transfer")
        return made

    made = await call.app.db.run(work)
    return {"transfer": views.transfer(call, made, key=key)}


def _own(tx: Tx, call: Call[Volumes], transfer_id: str) -> Transfer:
    found = rows.find(tx, Transfer, transfer_id)
    if found is None or not (is_admin(call.caller) or found.project_id == call.caller.project_id):
        raise NotFound(f"Transfer {transfer_id} could not be found.")
    return found


async def _transfers(call: Call[Volumes]) -> dict[str, Any]:
    """The caller's offers."""
    wanted, part = query.wanted(call, filters=(), sort_keys=("id", "created_at", "name"))
    found, _ = query.cut(await call.app.db.read(rows.page, Transfer, wanted), part.limit)
    return {"transfers": [views.transfer(call, item) for item in found]}


async def _transfer(call: Call[Volumes], transfer_id: str) -> dict[str, Any]:
    """One offer."""
    found = await call.app.db.read(_own, call, transfer_id)
    return {"transfer": views.transfer(call, found)}


async def _withdraw(call: Call[Volumes], transfer_id: str) -> None:
    """Withdraw an offer."""

    def work(tx: Tx) -> None:
        found = _own(tx, call, transfer_id)
        rows.delete(tx, Transfer, found.id)
        item = rows.find(tx, Volume, found.volume_id, lock=True)
        if item is not None and item.status == "awaiting-transfer":
            rows.change(tx, Volume, item.id, status="available")

    await call.app.db.run(work)


async def _accept(call: Call[Volumes], transfer_id: str) -> dict[str, Any]:
    """Take an offered volume over."""
    project = call.caller.project_id or ""

    def work(tx: Tx) -> Transfer:
        found = rows.find(tx, Transfer, transfer_id)
        if found is None:
            raise NotFound(f"Transfer {transfer_id} could not be found.")
        given = _hash(found.salt, call.body["accept"]["auth_key"])
        if not hmac.compare_digest(given, found.hash):
            raise BadRequest(f"Invalid auth key: attempt to transfer {transfer_id} with it.")
        item = rows.find(tx, Volume, found.volume_id, lock=True)
        if item is None:
            raise NotFound(f"Volume {found.volume_id} could not be found.")
        quotas.fit(tx, call.app.settings, project, volumes=1, gigabytes=item.size)
        rows.change(
            tx,
            Volume,
            item.id,
            status="available",
            project_id=project,
            user_id=call.caller.user_id,
        )
        rows.delete(tx, Transfer, found.id)
        return found

    found = await call.app.db.run(work)
    return {"transfer": views.transfer(call, found)}


for _prefix, _since in (("/os-volume-transfer", 0), ("/volume-transfers", 55)):
    transfers.add("GET", _prefix, _transfers, policy="volume:get", since=_since)
    transfers.add("GET", f"{_prefix}/detail", _transfers, policy="volume:get", since=_since)
    transfers.add("POST", _prefix, _offer, body=CREATE_TRANSFER, status=202, since=_since)
    transfers.add("GET", f"{_prefix}/{{transfer_id}}", _transfer, since=_since)
    transfers.add("DELETE", f"{_prefix}/{{transfer_id}}", _withdraw, status=202, since=_since)
    transfers.add(
        "POST",
        f"{_prefix}/{{transfer_id}}/accept",
        _accept,
        body=ACCEPT_TRANSFER,
        status=202,
        policy="volume:create",
        since=_since,
    )
