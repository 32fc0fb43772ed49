"""``rebuild``: the same server, made anew where it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from kilonova.api import quota_rules
from kilonova.api.actions.checks import check
from kilonova.api.actions.power import PATH
from kilonova.api.find import find, is_admin, require_cell, target
from kilonova.api.schemas import BOOLEAN, DESCRIPTION, METADATA, NAME, UUID, Tree, closed, truth
from kilonova.api.servers import view
from kilonova.api.servers.parse import access_address
from kilonova.api.servers.resolve import check_shape
from kilonova.api.servers.schema import DISK_CONFIG, HOSTNAME, TRUSTED_CERTS
from kilonova.api.servers.show import one
from kilonova.api.work import record, start
from kilonova.base.errors import BadRequest, Forbidden, NotFound
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain import image_properties, quotas
from kilonova.domain.describe import image_properties as properties_of
from kilonova.domain.describe import with_properties
from kilonova.domain.fit.wanted import topology
from kilonova.domain.guest import Disk, ImageRef, InjectedFile
from kilonova.domain.quotas import Rules
from kilonova.domain.resources import KeyPair
from kilonova.domain.sagas import REBUILD, Former, RebuildArgs, Reimage
from kilonova.domain.server import Private, Server
from kilonova.domain.states import Task, VmState
from kilonova.interfaces.image import Image
from kilonova.store import keypairs, pending, servers, shares
from kilonova.store.pending import Pending
from kilonova.web.call import Reply
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, since, until

ROUTES: Routes[Services] = Routes(tag="server actions")
RULE = "os_compute_api:servers:rebuild"
REIMAGES = 93
"""The microversion from which a root volume is written anew."""
GIB = 1024**3
VTPM = ("hw:tpm_version", "hw_tpm_version")

_FILES: Tree = {
    "type": "array",
    "items": closed(
        {"path": {"type": "string"}, "contents": {"type": "string", "format": "base64"}}
    ),
}
BODY = Schema(
    closed(
        {
            "rebuild": closed(
                {
                    "name": NAME,
                    "imageRef": UUID,
                    "adminPass": {"type": "string"},
                    "metadata": METADATA,
                    "preserve_ephemeral": BOOLEAN,
                    "OS-DCF:diskConfig": DISK_CONFIG,
                    "accessIPv4": {"type": "string", "format": "ipv4"},
                    "accessIPv6": {"type": "string", "format": "ipv6"},
                    "personality": until(56, _FILES),
                    "description": since(19, DESCRIPTION),
                    "key_name": since(
                        54, {"type": ["string", "null"], "minLength": 1, "maxLength": 255}
                    ),
                    "user_data": since(
                        57, {"type": ["string", "null"], "format": "base64", "maxLength": 65535}
                    ),
                    "trusted_image_certificates": since(63, TRUSTED_CERTS),
                    "hostname": HOSTNAME,
                },
                "imageRef",
            )
        },
        "rebuild",
    )
)


class Wanted(msgspec.Struct, frozen=True):
    """What a rebuild changes: fields of the server's row, and what the work is told.

    ``properties``: those of the new image, where only they are kept of it.
    """

    values: dict[str, Any]
    secret: Pending
    former: Former | None
    preserve_ephemeral: bool
    root: Reimage | None = None
    properties: dict[str, str] | None = None


@ROUTES.post(
    PATH,
    action="rebuild",
    body=BODY,
    status=202,
    responses=answers(server=view.REBUILT),
    summary="Rebuild",
)
async def rebuild(call: Context, server_id: str) -> Reply:
    """Fresh disks of the same or another image; host, cards and volumes stay. The server as it
    is then."""
    body = call.body["rebuild"]
    found = await find(call, server_id, RULE)
    if body.get("trusted_image_certificates"):
        call.enforce(f"{RULE}:trusted_certs", target(found.server))
    check(call, found, "rebuild")
    cell = require_cell(found, "rebuild")
    private = await cell.db.read(servers.private, server_id) or Private()
    refuse_vtpm("rebuild", found.server, private)
    if await cell.db.read(shares.of_server, server_id):
        raise BadRequest("Feature not supported with instances that have shares.")
    if body.get("trusted_image_certificates"):
        raise BadRequest("This cloud cannot verify image certificates: it has no key manager.")
    image = await _image(call, body["imageRef"])
    key = await _within_quota(call, body)
    wanted = await _wanted(call, found.server, private, image, key)
    await cell.db.run(_begin, call, server_id, wanted)
    await call.app.wake()
    fresh = await find(
        call,
        server_id,
        extras=view.rebuilt_extras(call.version, view.granted(call)),
        groups=call.version >= 71,
    )
    shown = await one(call, fresh, view.REBUILT)
    if call.app.settings.api.enable_instance_password:
        shown["adminPass"] = wanted.secret.admin_pass
    return Reply({"server": shown}, headers={"Location": call.link("servers", server_id)})


def refuse_vtpm(action: str, server: Server, private: Private) -> None:
    """BadRequest for a server with a virtual TPM, whose secrets would be lost."""
    asked = {**server.flavor.extra_specs, **properties_of(server, private)}
    if any(asked.get(name) for name in VTPM):
        raise BadRequest(f"Operation '{action}' not supported for vTPM-enabled instance.")


async def _image(call: Context, image_id: str) -> Image:
    try:
        image = await call.app.images.show(image_id, token=call.caller.token)
    except (NotFound, Forbidden):
        raise BadRequest("Cannot find image for rebuild") from None
    if image.status != "active":
        raise BadRequest(f"Image {image_id} is not active.")
    image_properties.validate(image.properties)
    return image


async def _within_quota(call: Context, body: dict[str, Any]) -> KeyPair | None:
    """The key that is named; BadRequest when it is not there. Forbidden over a quota."""
    rules = await quota_rules.load(call, call.caller.project_id or "")
    key, limits = await call.app.db.read(_known, call, rules, body.get("key_name"))
    if body.get("key_name") is not None and key is None:
        raise BadRequest("Invalid key_name provided.")
    files = body.get("personality", ())
    for name, used in (
        ("metadata_items", len(body.get("metadata", ()))),
        ("injected_files", len(files)),
        ("injected_file_path_bytes", max((len(f.get("path", "")) for f in files), default=0)),
        (
            "injected_file_content_bytes",
            max((len(f.get("contents", "")) for f in files), default=0),
        ),
    ):
        if used:
            quotas.check(limits, name, used, unified=rules.unified)
    return key


def _known(
    tx: Tx, call: Context, rules: Rules, key_name: str | None
) -> tuple[KeyPair | None, dict[str, int]]:
    caller = call.caller
    key = keypairs.get(tx, caller.user_id, key_name) if key_name is not None else None
    return key, quota_rules.limits(tx, rules, caller.project_id or "", caller.user_id)


async def _wanted(
    call: Context, server: Server, private: Private, image: Image, key: KeyPair | None
) -> Wanted:
    """What changes; BadRequest when the image does not fit the server."""
    body = call.body["rebuild"]
    own = ImageRef(**{name: getattr(image, name) for name in ImageRef.__struct_fields__})
    before = properties_of(server, private)
    root = next((disk for disk in private.disks if disk.role == "root"), None)
    on_volume = root is not None and root.source == "volume"
    known = await _source_of(call, root) if root is not None and on_volume else None
    former_id = known if on_volume else (server.image.id if server.image is not None else None)
    changes = image.id != former_id
    if on_volume and changes and call.version < REIMAGES:
        raise BadRequest("Unable to rebuild with a different image for a volume-backed server.")
    _check_size(server, image, root if on_volume else None)
    if changes:
        check_shape(server.flavor, image.properties, call.app.settings.pci)
        if topology(server.flavor, before) != topology(server.flavor, image.properties):
            raise BadRequest(
                "An instance's NUMA topology cannot be changed as part of a rebuild. The image "
                "provided is invalid for this instance."
            )
    values = {"progress": 0, **_values(body), **_keyed(body, key)}
    reimage = None
    if root is not None and on_volume and call.version >= REIMAGES:
        per_gib = call.app.settings.default.reimage_timeout_per_gb
        seconds = per_gib * max(1, math.ceil(image.size / GIB))
        reimage = Reimage(root.id, own, float(seconds))
    named = server.image is not None or not on_volume
    if named:
        values["image"] = own
    return Wanted(
        values,
        Pending(body.get("adminPass") or call.ids.token(9), _files(body)),
        Former(server.image, {} if named else before) if changes else None,
        truth(body.get("preserve_ephemeral", False)),
        reimage,
        None if named else image.properties,
    )


async def _source_of(call: Context, root: Disk) -> str | None:
    """The image a root volume was made from."""
    if root.volume_id is None:
        return None
    volume = await call.app.volumes.show(root.volume_id)
    return volume.image_metadata.get("image_id")


def _check_size(server: Server, image: Image, volume: Disk | None) -> None:
    if image.min_ram > server.flavor.memory_mb:
        raise BadRequest("Flavor's memory is too small for requested image.")
    if volume is not None:
        if image.min_disk * 1024 > volume.size_mb > 0:
            raise BadRequest(
                "Volume is smaller than the minimum size specified in image metadata. Volume size "
                f"is {volume.size_mb << 20} bytes, minimum size is {image.min_disk * GIB} bytes."
            )
        return
    needed = max(image.min_disk, math.ceil((image.virtual_size or image.size) / GIB))
    if 0 < server.flavor.root_gb < needed:
        raise BadRequest(
            "Flavor's disk is too small for requested image. Flavor disk is "
            f"{server.flavor.root_gb * GIB} bytes, image needs {needed * GIB} bytes."
        )


def _values(body: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if "name" in body:
        values["name"] = body["name"].strip()
    for key, column in (("accessIPv4", "access_ip_v4"), ("accessIPv6", "access_ip_v6")):
        if key in body:
            values[column] = access_address(body[key])
    if "OS-DCF:diskConfig" in body:
        values["auto_disk_config"] = body["OS-DCF:diskConfig"] == "AUTO"
    for key in ("description", "hostname", "metadata", "user_data"):
        if key in body:
            values[key] = body[key]
    if "trusted_image_certificates" in body:
        values["trusted_certs"] = None
    return values


def _keyed(body: Mapping[str, Any], key: KeyPair | None) -> dict[str, Any]:
    """The key pair, when one is given or taken away."""
    if "key_name" not in body:
        return {}
    if key is None:
        return {"key_name": None, "public_key": None, "key_type": "ssh"}
    return {"key_name": key.name, "public_key": key.public_key, "key_type": key.type}


def _files(body: Mapping[str, Any]) -> tuple[InjectedFile, ...]:
    return tuple(
        InjectedFile(file.get("path", ""), file.get("contents", ""))
        for file in body.get("personality", ())
    )


def _begin(tx: Tx, call: Context, server_id: str, wanted: Wanted) -> None:
    private = servers.private(tx, server_id)
    system = private.system if private is not None else {}
    if wanted.properties is not None:
        system = with_properties(system, wanted.properties)
    before = servers.begin(
        tx,
        server_id,
        "rebuild",
        task=Task.REBUILDING,
        now=call.clock.now(),
        override_lock=is_admin(call),
        system=pending.put(system, wanted.secret),
        **wanted.values,
    )
    record(tx, call, REBUILD.action, server_id)
    args = RebuildArgs(
        server_id,
        wanted.former,
        before.vm_state == VmState.STOPPED,
        wanted.preserve_ephemeral,
        wanted.root,
    )
    start(tx, call, REBUILD, args, server_id)
