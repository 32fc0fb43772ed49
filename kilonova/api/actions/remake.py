"""Making an image of a server."""

from __future__ import annotations

from typing import Any

from kilonova.api import quota_rules
from kilonova.api.actions.later import LATER, check, not_yet
from kilonova.api.actions.power import PATH
from kilonova.api.find import find
from kilonova.api.schemas import METADATA, NAME, closed
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain import quotas
from kilonova.domain.quotas import Rules
from kilonova.domain.resources import KeyPair
from kilonova.store import keypairs
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema

ROUTES: Routes[Services] = Routes(tag="server actions")

CREATE_IMAGE = Schema(
    closed({"createImage": closed({"name": NAME, "metadata": METADATA}, "name")}, "createImage")
)
CREATE_BACKUP = Schema(
    closed(
        {
            "createBackup": closed(
                {
                    "name": NAME,
                    "backup_type": {"type": "string"},
                    "rotation": {
                        "type": ["integer", "string"],
                        "pattern": "^[0-9]*$",
                        "minimum": 0,
                        "minLength": 1,
                    },
                    "metadata": METADATA,
                },
                "name",
                "backup_type",
                "rotation",
            )
        },
        "createBackup",
    )
)


def _known(
    tx: Tx, call: Context, rules: Rules, key_name: str | None
) -> tuple[KeyPair | None, dict[str, int]]:
    caller = call.caller
    key = keypairs.get(tx, caller.user_id, key_name) if key_name is not None else None
    return key, quota_rules.limits(tx, rules, caller.project_id or "", caller.user_id)


@ROUTES.post(
    PATH, action="createImage", body=CREATE_IMAGE, status=202, tags=LATER, summary="Make an image"
)
async def create_image(call: Context, server_id: str) -> None:
    """An image of the server's disk."""
    await _image_of(call, server_id, "os_compute_api:servers:create_image", "createImage")


@ROUTES.post(
    PATH, action="createBackup", body=CREATE_BACKUP, status=202, tags=LATER, summary="Back up"
)
async def create_backup(call: Context, server_id: str) -> None:
    """An image among the newest ``rotation`` of its kind."""
    await _image_of(call, server_id, "os_compute_api:os-create-backup", "createBackup")


async def _image_of(call: Context, server_id: str, rule: str, action: str) -> None:
    body: dict[str, Any] = call.body[action]
    found = await find(call, server_id, rule)
    if call.version < 39:
        rules = await quota_rules.load(call, call.caller.project_id or "")
        _, limits = await call.app.db.read(_known, call, rules, None)
        items = len(body.get("metadata", ()))
        quotas.check(limits, "metadata_items", items, unified=rules.unified)
    check(call, found, action)
    raise not_yet(action)
