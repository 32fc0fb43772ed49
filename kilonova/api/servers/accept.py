"""The one transaction behind 202: quota, build requests, mappings, and a saga for each server."""

from __future__ import annotations

import datetime as dt

import msgspec

from kilonova.api import quota_rules
from kilonova.api.servers.devices import INVALID
from kilonova.api.servers.parse import ServerRequest, hostname_of
from kilonova.api.servers.resolve import Resolved
from kilonova.api.work import asked_by
from kilonova.base.errors import BadRequest
from kilonova.context import Context
from kilonova.db.database import Tx
from kilonova.domain import disks
from kilonova.domain.describe import BOOT_ROLES, IMAGE_PREFIX, MAKER_NAME, MAKER_PROJECT
from kilonova.domain.guest import Disk, ImageRef
from kilonova.domain.quotas import Rules, check
from kilonova.domain.sagas import BUILD, ServerArgs
from kilonova.domain.server import EMPTY, BuildRequest, BuildSpec, Private, Server
from kilonova.domain.states import Task, VmState
from kilonova.store import groups, servers
from kilonova.web.call import Caller


class Plan(msgspec.Struct, frozen=True):
    """Everything chosen before the transaction, so that running it again changes nothing."""

    ids: tuple[str, ...]
    disks: tuple[tuple[Disk, ...], ...]
    reservation_id: str
    admin_pass: str
    now: dt.datetime


def plan(call: Context, request: ServerRequest, found: Resolved) -> Plan:
    """Choose ids, disks and names. BadRequest when the disks do not fit the flavor."""
    image = image_ref(found)
    ids = tuple(call.ids.uuid() for _ in range(request.most))
    reservation = f"r-{call.ids.hex()[:8]}"
    start = found.volumes.start
    chosen = tuple(
        disks.plan(
            found.flavor,
            image,
            request.blanks,
            root=request.root,
            new_id=call.ids.uuid,
            volumes=found.volumes.wanted,
            properties=None if start is None else (found.image or start).properties,
        )
        for _ in ids
    )
    _check_count(call, request, chosen[0])
    password = request.admin_pass or call.ids.token(9)
    return Plan(ids, chosen, reservation, password, call.clock.now())


def _check_count(call: Context, request: ServerRequest, own: tuple[Disk, ...]) -> None:
    """Counts what is asked for: what the flavor brings along is its own affair."""
    most = call.app.settings.default.max_local_block_devices
    root = any(disk.role == "root" and disk.source != "volume" for disk in own)
    local = root + len(request.blanks)
    if 0 <= most < local:
        raise BadRequest(INVALID + "You specified more local devices than the limit allows")


async def accept(call: Context, request: ServerRequest, found: Resolved, chosen: Plan) -> list[str]:
    """Write it all; the ids of the servers made. OverQuota."""

    async def write(rules: Rules) -> list[str]:
        return await call.app.db.run(_accept, call, request, found, chosen, rules)

    caller = call.caller
    made = await quota_rules.within(
        call, caller.project_id or "", write, user_id=caller.user_id, counting=True
    )
    await call.app.wake()
    return made


def _accept(
    tx: Tx, call: Context, request: ServerRequest, found: Resolved, chosen: Plan, rules: Rules
) -> list[str]:
    before = servers.accepted(tx, chosen.ids)
    if before:
        return before
    project, user = call.caller.project_id or "", call.caller.user_id
    count = quota_rules.fit(
        tx,
        rules,
        project_id=project,
        user_id=user,
        flavor=found.flavor,
        image=local_image(found),
        least=request.least,
        most=request.most,
    )
    limits = quota_rules.limits(tx, rules, project, user)
    _check_small_quotas(request, rules, limits)
    rows = [one(call, request, found, chosen, index, count) for index in range(count)]
    servers.accept(tx, rows)
    ids = list(chosen.ids[:count])
    if found.group is not None:
        groups.add_members(
            tx,
            found.group.id,
            ids,
            limit=limits["server_group_members"],
            unified=rules.unified,
        )
    asked = asked_by(call)
    for server_id in ids:
        call.app.sagas.accept(
            tx,
            BUILD,
            ServerArgs(server_id),
            server_id=server_id,
            asked=asked,
            ids=call.app.ids,
            clock=call.clock,
        )
    return ids


def _check_small_quotas(request: ServerRequest, rules: Rules, limits: dict[str, int]) -> None:
    for name, wanted in (
        ("metadata_items", len(request.metadata)),
        ("injected_files", len(request.files)),
        ("injected_file_path_bytes", max((len(f.path) for f in request.files), default=0)),
        ("injected_file_content_bytes", max((len(f.contents) for f in request.files), default=0)),
    ):
        if wanted:
            check(limits, name, wanted, unified=rules.unified)


def one(
    call: Context,
    request: ServerRequest,
    found: Resolved,
    chosen: Plan,
    index: int,
    count: int,
) -> tuple[BuildRequest, BuildSpec]:
    """The rows of one of the servers."""
    server_id = chosen.ids[index]
    name = f"{request.name}-{index + 1}" if count > 1 else request.name
    now = chosen.now + dt.timedelta(microseconds=index)
    image = image_ref(found)
    own_disks = chosen.disks[index]
    start = found.volumes.start
    source = found.image or start
    properties = source.properties if source is not None else {}
    server = Server(
        id=server_id,
        number=0,
        project_id=call.caller.project_id or "",
        user_id=call.caller.user_id,
        name=name,
        hostname=request.hostname or hostname_of(name, server_id),
        description=request.description,
        vm_state=VmState.BUILDING,
        task_state=Task.SCHEDULING,
        power_state=0,
        progress=0,
        host=None,
        node=None,
        availability_zone=request.zone,
        pinned_zone=request.zone,
        flavor=found.flavor,
        image=image,
        from_volume=start is not None,
        metadata=request.metadata,
        addresses=EMPTY,
        security_groups=found.group_names,
        key_name=request.key_name,
        config_drive=request.config_drive
        or properties.get("img_config_drive") == "mandatory"
        or call.app.settings.default.force_config_drive,
        access_ip_v4=request.access_ip_v4,
        access_ip_v6=request.access_ip_v6,
        locked_by=None,
        locked_reason=None,
        reservation_id=chosen.reservation_id,
        launch_index=index,
        root_device=f"/dev/{own_disks[0].device}",
        auto_disk_config=_auto(request, properties),
        trusted_certs=request.trusted_certs,
        scheduler_hints=request.hints,
        created_at=now,
        updated_at=now,
        launched_at=None,
        terminated_at=None,
        deleted=False,
        tags=tuple(sorted(request.tags)),
    )
    private = Private(
        disks=own_disks,
        user_data=request.user_data,
        key_type=found.key.type if found.key else "ssh",
        public_key=found.key.public_key if found.key else None,
        system={**_maker(call.caller), **_marked(image, properties)},
    )
    spec = BuildSpec(
        nics=found.nics,
        security_groups=found.security_groups,
        zone=request.zone or call.app.settings.default.default_schedule_zone or found.volumes.zone,
        host=request.host,
        node=request.node,
        wanted_host=request.wanted_host,
        wanted_node=request.wanted_node,
        hints=request.hints,
        group_id=found.group.id if found.group else None,
        admin_pass=chosen.admin_pass,
        files=request.files,
        count=count,
        flavor=found.flavor,
        image=local_image(found),
    )
    return BuildRequest(server, private, call.request_id), spec


def _auto(request: ServerRequest, properties: dict[str, str]) -> bool:
    if request.auto_disk_config is not None:
        return request.auto_disk_config
    return properties.get("auto_disk_config", "").lower() in ("true", "1", "yes")


def _maker(caller: Caller) -> dict[str, str]:
    """Who makes the server, as its metadata and images of it tell."""
    names = {MAKER_NAME: caller.user_name, MAKER_PROJECT: caller.project_name}
    known = {key: name for key, name in names.items() if name}
    return {BOOT_ROLES: ",".join(caller.roles), **known}


def _marked(image: ImageRef | None, properties: dict[str, str]) -> dict[str, str]:
    """Properties of what the root volume was made from, for a server without an image."""
    if image is not None:
        return {}
    return {IMAGE_PREFIX + name: value for name, value in properties.items()}


def image_ref(found: Resolved) -> ImageRef | None:
    """The image as the server remembers it: without what only the API asks for.

    It is the one the request named, also beside a root volume.
    """
    if found.image is None:
        return None
    return ImageRef(**{n: getattr(found.image, n) for n in ImageRef.__struct_fields__})


def local_image(found: Resolved) -> ImageRef | None:
    """The image on the local root disk; None for a server that starts from a volume."""
    return None if found.volumes.start is not None else image_ref(found)
