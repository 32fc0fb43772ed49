"""``lock``, ``unlock``, ``os-resetState``, ``injectNetworkInfo``: changes of the row alone."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.api.actions.power import PATH
from kilonova.api.find import Found, find, is_admin, target
from kilonova.api.schemas import closed
from kilonova.api.work import record
from kilonova.base.errors import Forbidden
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain.states import VmState
from kilonova.store import actions, mappings, servers
from kilonova.store.noting import note
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, pick, since, until

ROUTES: Routes[Services] = Routes(tag="server actions")
OVERRIDE = "os_compute_api:os-lock-server:unlock:unlock_override"

LOCK = Schema(
    closed(
        {
            "lock": pick(
                until(72, {}),
                since(
                    73,
                    {
                        "type": ["object", "null"],
                        "properties": {
                            "locked_reason": {"type": "string", "minLength": 1, "maxLength": 255}
                        },
                        "additionalProperties": False,
                    },
                ),
            )
        },
        "lock",
    )
)
UNLOCK = Schema(closed({"unlock": {}}, "unlock"))
RESET = Schema(
    closed(
        {
            "os-resetState": closed(
                {"state": {"type": "string", "enum": ["active", "error"]}}, "state"
            )
        },
        "os-resetState",
    )
)
INJECT = Schema(closed({"injectNetworkInfo": {}}, "injectNetworkInfo"))


@ROUTES.post(PATH, action="lock", body=LOCK, status=202, summary="Lock a server")
async def lock(call: Context, server_id: str) -> None:
    """Keep the owner from changing the server by accident."""
    found = await find(call, server_id, "os_compute_api:os-lock-server:lock")
    options = call.body["lock"] if call.version >= 73 else None
    reason = (options or {}).get("locked_reason")
    owner = found.server.project_id == call.caller.project_id and not is_admin(call)
    by = "owner" if owner else "admin"
    if found.server.locked_by == "admin" and owner:
        by = "admin"
    await _save(call, found, "lock", locked_by=by, locked_reason=reason)


@ROUTES.post(PATH, action="unlock", body=UNLOCK, status=202, summary="Unlock a server")
async def unlock(call: Context, server_id: str) -> None:
    """An administrator's lock is not the owner's to take off."""
    found = await find(call, server_id, "os_compute_api:os-lock-server:unlock")
    if found.server.locked_by == "admin" and not is_admin(call):
        call.enforce(OVERRIDE, target(found.server))
    await _save(call, found, "unlock", locked_by=None, locked_reason=None)


@ROUTES.post(PATH, action="os-resetState", body=RESET, status=202, summary="Reset the state")
async def reset(call: Context, server_id: str) -> None:
    """Set ACTIVE or ERROR and forget the task; the guest is not touched."""
    found = await find(call, server_id, "os_compute_api:os-admin-actions:reset_state")
    state = VmState.ACTIVE if call.body["os-resetState"]["state"] == "active" else VmState.ERROR
    if found.server.vm_state == VmState.SOFT_DELETED:
        await call.app.db.run(mappings.set_aside, server_id, aside=False)
    await _save(call, found, "resetState", vm_state=state, task_state=None)


@ROUTES.post(
    PATH, action="injectNetworkInfo", body=INJECT, status=202, summary="Kept for old clients"
)
async def inject(call: Context, server_id: str) -> None:
    """Guests learn their network by DHCP or config drive: there is nothing to inject."""
    found = await find(call, server_id, "os_compute_api:os-admin-actions:inject_network_info")
    if found.server.locked_by and not is_admin(call):
        raise Forbidden(f"Instance {server_id} is locked")


async def _save(call: Context, found: Found, action: str, **values: Any) -> None:
    server_id = found.server.id
    if found.cell is None:
        await call.app.db.run(
            servers.change_building,
            server_id,
            lambda r: msgspec.structs.replace(
                r, server=msgspec.structs.replace(r.server, **values)
            ),
        )
    else:
        await found.cell.db.run(_write, call, server_id, action, values)


def _write(tx: Tx, call: Context, server_id: str, action: str, values: dict[str, Any]) -> None:
    now = call.clock.now()
    server = servers.update(tx, server_id, now=now, **values)
    note(tx, f"instance.{action}", server)
    record(tx, call, action, server_id)
    actions.finish(tx, server_id, call.request_id, now=now)
