"""Making a server anew, or making something of it: rebuild, rescue, a new password."""

from __future__ import annotations

from kilonova.api import quota_rules
from kilonova.api.actions.later import LATER, allowed, check, not_yet
from kilonova.api.actions.power import PATH
from kilonova.api.find import Found, find, target
from kilonova.api.schemas import BOOLEAN, DESCRIPTION, METADATA, NAME, UUID, Tree, closed
from kilonova.api.servers.schema import DISK_CONFIG, HOSTNAME, TRUSTED_CERTS
from kilonova.base.errors import BadRequest, Forbidden, NotFound
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain import image_properties, quotas
from kilonova.domain.quotas import Rules
from kilonova.domain.resources import KeyPair
from kilonova.store import keypairs
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, since, until

ROUTES: Routes[Services] = Routes(tag="server actions")

_FILES: Tree = {
    "type": "array",
    "items": closed(
        {"path": {"type": "string"}, "contents": {"type": "string", "format": "base64"}}
    ),
}
REBUILD = Schema(
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
RESCUE = Schema(
    closed(
        {
            "rescue": closed(
                {"adminPass": {"type": "string"}, "rescue_image_ref": UUID},
                type=["object", "null"],
            )
        },
        "rescue",
    )
)
UNRESCUE = Schema(closed({"unrescue": {}}, "unrescue"))
PASSWORD = Schema(
    closed(
        {"changePassword": closed({"adminPass": {"type": "string"}}, "adminPass")},
        "changePassword",
    )
)


@ROUTES.post(PATH, action="rebuild", body=REBUILD, status=202, tags=LATER, summary="Rebuild")
async def rebuild(call: Context, server_id: str) -> None:
    """The same server with a fresh disk, of the same or another image."""
    body = call.body["rebuild"]
    found = await find(call, server_id, "os_compute_api:servers:rebuild")
    if body.get("trusted_image_certificates"):
        call.enforce("os_compute_api:servers:rebuild:trusted_certs", target(found.server))
    check(call, found, "rebuild")
    await _image(call, body["imageRef"], found)
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
    raise not_yet("rebuild")


def _known(
    tx: Tx, call: Context, rules: Rules, key_name: str | None
) -> tuple[KeyPair | None, dict[str, int]]:
    caller = call.caller
    key = keypairs.get(tx, caller.user_id, key_name) if key_name is not None else None
    return key, quota_rules.limits(tx, rules, caller.project_id or "", caller.user_id)


async def _image(call: Context, image_id: str, found: Found) -> None:
    try:
        image = await call.app.images.show(image_id, token=call.caller.token)
    except (NotFound, Forbidden):
        raise BadRequest("Cannot find image for rebuild") from None
    if image.status != "active":
        raise BadRequest(f"Image {image_id} is not active.")
    image_properties.validate(image.properties)
    if image.min_ram > found.server.flavor.memory_mb:
        raise BadRequest("Flavor's memory is too small for requested image.")
    if 0 < found.server.flavor.root_gb < image.min_disk:
        raise BadRequest("Flavor's disk is too small for requested image.")


@ROUTES.post(PATH, action="rescue", body=RESCUE, tags=LATER, summary="Rescue")
async def rescue(call: Context, server_id: str) -> None:
    """Boot from another image, with the server's disk beside it."""
    await allowed(call, server_id, "os_compute_api:os-rescue", "rescue")
    raise not_yet("rescue")


@ROUTES.post(PATH, action="unrescue", body=UNRESCUE, status=202, tags=LATER, summary="Unrescue")
async def unrescue(call: Context, server_id: str) -> None:
    """Boot from the server's own disk again."""
    await allowed(call, server_id, "os_compute_api:os-unrescue", "unrescue")
    raise not_yet("unrescue")


@ROUTES.post(
    PATH,
    action="changePassword",
    body=PASSWORD,
    status=202,
    tags=LATER,
    summary="Change the administrator's password",
)
async def change_password(call: Context, server_id: str) -> None:
    """By the guest's agent."""
    await allowed(call, server_id, "os_compute_api:os-admin-password", "changePassword")
    raise not_yet("changePassword")
