"""Moving servers: resize, migrate, live-migrate, evacuate."""

from __future__ import annotations

from kilonova.api import quota_rules
from kilonova.api.actions.later import (
    LATER,
    allowed,
    check,
    compute_of,
    host_is_up,
    not_yet,
    require_up,
)
from kilonova.api.actions.power import PATH
from kilonova.api.find import find, is_admin, target
from kilonova.api.schemas import BOOLEAN, HOST, Tree, closed, truth
from kilonova.api.servers.schema import DISK_CONFIG
from kilonova.base.errors import BadRequest, NotFound
from kilonova.context import Context, Services
from kilonova.store import flavors
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, between, pick, since, until

ROUTES: Routes[Services] = Routes(tag="server actions")
MIGRATE_RULE = "os_compute_api:os-migrate-server:"

MAYBE_HOST: Tree = {**HOST, "type": ["string", "null"]}
RESIZE = Schema(
    closed(
        {
            "resize": closed(
                {
                    "flavorRef": {"type": ["string", "integer"], "minLength": 1},
                    "OS-DCF:diskConfig": DISK_CONFIG,
                },
                "flavorRef",
            )
        },
        "resize",
    )
)
MIGRATE = Schema(
    closed(
        {
            "migrate": pick(
                until(55, {}),
                since(56, closed({"host": MAYBE_HOST}, type=["object", "null"])),
            )
        },
        "migrate",
    )
)
_BLOCK: Tree = {**BOOLEAN, "enum": [*BOOLEAN["enum"], "auto"]}
LIVE = Schema(
    closed(
        {
            "os-migrateLive": closed(
                {
                    "block_migration": pick(until(24, BOOLEAN), since(25, _BLOCK)),
                    "disk_over_commit": until(24, BOOLEAN),
                    "host": MAYBE_HOST,
                    "force": between(30, 67, BOOLEAN),
                },
                "block_migration",
                "host",
                until(24, "disk_over_commit"),
            )
        },
        "os-migrateLive",
    )
)
EVACUATE = Schema(
    closed(
        {
            "evacuate": closed(
                {
                    "host": HOST,
                    "onSharedStorage": until(13, BOOLEAN),
                    "adminPass": {"type": "string"},
                    "force": between(29, 67, BOOLEAN),
                },
                until(13, "onSharedStorage"),
            )
        },
        "evacuate",
    )
)


def _plain(action: str) -> Schema:
    return Schema(closed({action: {}}, action))


@ROUTES.post(PATH, action="resize", body=RESIZE, status=202, tags=LATER, summary="Resize")
async def resize(call: Context, server_id: str) -> None:
    """Another flavor, which must differ, exist, be enabled and have room for the root disk."""
    found = await find(call, server_id, "os_compute_api:servers:resize")
    check(call, found, "resize")
    wanted = str(call.body["resize"]["flavorRef"]).rstrip("/").rsplit("/", 1)[-1]
    flavor = await call.app.db.read(
        flavors.get, wanted, project_id=call.caller.project_id, everybody=is_admin(call)
    )
    if flavor is None or flavor.disabled:
        raise BadRequest(f"Flavor {wanted} could not be found.")
    if flavor.flavorid == found.server.flavor.flavorid:
        raise BadRequest("When resizing, instances must change flavor!")
    if flavor.root_gb == 0 and found.server.flavor.root_gb != 0:
        raise BadRequest(
            "Server disk was unable to be resized because: Resize to zero disk flavor is not "
            "allowed."
        )
    await quota_rules.check_growth(call, found.server, flavor)
    await require_up(call, found)
    raise not_yet("resize")


@ROUTES.post(
    PATH,
    action="confirmResize",
    body=_plain("confirmResize"),
    status=204,
    tags=LATER,
    summary="Confirm a resize",
)
async def confirm(call: Context, server_id: str) -> None:
    """Keep the new flavor or host."""
    found = await allowed(call, server_id, "os_compute_api:servers:confirm_resize", "confirmResize")
    await require_up(call, found)
    raise not_yet("confirmResize")


@ROUTES.post(
    PATH,
    action="revertResize",
    body=_plain("revertResize"),
    status=202,
    tags=LATER,
    summary="Revert a resize",
)
async def revert(call: Context, server_id: str) -> None:
    """Go back to the old flavor or host."""
    await allowed(call, server_id, "os_compute_api:servers:revert_resize", "revertResize")
    raise not_yet("revertResize")


@ROUTES.post(PATH, action="migrate", body=MIGRATE, status=202, tags=LATER, summary="Migrate")
async def migrate(call: Context, server_id: str) -> None:
    """To another host, by the scheduler's choice or (2.56) a named one."""
    found = await find(call, server_id, MIGRATE_RULE + "migrate")
    options = call.body["migrate"] if call.version >= 56 else None
    host = (options or {}).get("host")
    if host is not None:
        call.enforce(MIGRATE_RULE + "migrate:host", target(found.server))
    check(call, found, "migrate")
    if host is not None:
        if await compute_of(call, host) is None:
            raise BadRequest(f"Compute host {host} could not be found.")
        if host == found.server.host:
            raise BadRequest("Cannot migrate to the host where the server exists.")
    await require_up(call, found)
    raise not_yet("migrate")


@ROUTES.post(
    PATH, action="os-migrateLive", body=LIVE, status=202, tags=LATER, summary="Live-migrate"
)
async def live(call: Context, server_id: str) -> None:
    """To another host while the guest runs."""
    options = call.body["os-migrateLive"]
    host = options["host"]
    found = await find(call, server_id, MIGRATE_RULE + "migrate_live")
    if host is not None:
        call.enforce(MIGRATE_RULE + "migrate_live:host", target(found.server))
    if truth(options.get("force", False)) and host is None:
        raise BadRequest("Can't force to a non-provided destination")
    check(call, found, "os-migrateLive")
    if host is not None and await compute_of(call, host) is None:
        raise BadRequest(f"Compute host {host} could not be found.")
    if host is not None and host == found.server.host:
        raise BadRequest(f"Unable to migrate instance ({server_id}) to current host ({host}).")
    raise not_yet("os-migrateLive")


@ROUTES.post(PATH, action="evacuate", body=EVACUATE, tags=LATER, summary="Evacuate")
async def evacuate(call: Context, server_id: str) -> None:
    """Make the server anew elsewhere; its host must be down."""
    options = call.body["evacuate"]
    found = await find(call, server_id, "os_compute_api:os-evacuate")
    host = options.get("host")
    if truth(options.get("force", False)) and not host:
        raise BadRequest("Can't force to a non-provided destination")
    if call.version < 14 and truth(options["onSharedStorage"]) and "adminPass" in options:
        raise BadRequest("admin password can't be changed on existing disk")
    if host is not None and await compute_of(call, host) is None:
        raise NotFound(f"Compute host {host} not found.")
    if host is not None and host == found.server.host:
        raise BadRequest("The target host can't be the same one.")
    check(call, found, "evacuate")
    if await host_is_up(call, found.server.host):
        raise BadRequest(f"Compute service of {found.server.host} is still in use.")
    raise not_yet("evacuate")
