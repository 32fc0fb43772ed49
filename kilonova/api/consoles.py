"""Remote consoles: a token and the URL it opens a server's screen or serial port with."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import urlencode

import msgspec

from kilonova.api.actions.power import PATH
from kilonova.api.agents import ask
from kilonova.api.find import find, require_cell
from kilonova.api.schemas import closed, no_query
from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.config.settings import Settings
from kilonova.context import Context, Services
from kilonova.domain import states
from kilonova.domain.operations import CONSOLE, ConsoleAsk
from kilonova.domain.resources import ConsoleToken
from kilonova.messaging.bus import NoReply, Undelivered
from kilonova.store import consoles as store
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, since

ROUTES: Routes[Services] = Routes(tag="consoles")
RULE = "os_compute_api:os-remote-consoles"

CREATE = Schema(
    closed(
        {
            "remote_console": closed(
                {
                    "protocol": {
                        "type": "string",
                        "enum": ["vnc", "spice", "serial", "rdp", since(8, "mks")],
                    },
                    "type": {
                        "type": "string",
                        "enum": [
                            "novnc",
                            "xvpvnc",
                            "spice-html5",
                            "serial",
                            "rdp-html5",
                            since(8, "webmks"),
                            since(99, "spice-direct"),
                        ],
                    },
                },
                "protocol",
                "type",
            )
        },
        "remote_console",
    )
)


class Kind(msgspec.Struct, frozen=True):
    """A type of console: its protocol, and whether its token stands inside a path."""

    protocol: str
    in_path: bool = False


KINDS = {
    "novnc": Kind("vnc", in_path=True),
    "spice-html5": Kind("spice"),
    "spice-direct": Kind("spice"),
    "serial": Kind("serial"),
    "webmks": Kind("mks", in_path=True),
}
"""Types nobody offers any more (xvpvnc, rdp-html5) are not among them."""


def _base(settings: Settings, kind: str) -> str:
    return {
        "novnc": settings.vnc.novncproxy_base_url,
        "spice-html5": settings.spice.html5proxy_base_url,
        "spice-direct": settings.spice.spice_direct_proxy_base_url,
        "serial": settings.serial_console.base_url,
        "webmks": settings.mks.mksproxy_base_url,
    }[kind]


def _offered(settings: Settings, protocol: str) -> bool:
    return {
        "vnc": settings.vnc.enabled,
        "spice": settings.spice.enabled,
        "serial": settings.serial_console.enabled,
        "mks": settings.mks.enabled,
    }[protocol]


@ROUTES.post(
    "/servers/{server_id}/remote-consoles",
    since=6,
    body=CREATE,
    responses=answers(remote_console={"protocol": str, "type": str, "url": str}),
    summary="Make a remote console",
)
async def create(call: Context, server_id: str) -> dict[str, Any]:
    """A console of a protocol and type; its URL is good for ``[consoleauth] token_ttl`` seconds."""
    body = call.body["remote_console"]
    url = await _issue(call, server_id, body["protocol"], body["type"])
    return {"remote_console": {"protocol": body["protocol"], "type": body["type"], "url": url}}


OLD = answers(console={"type": str, "url": str})


def _old_body(action: str, *types: str) -> Schema:
    kind = {"type": "string", "enum": list(types)}
    return Schema(closed({action: closed({"type": kind}, "type")}, action))


async def _old(call: Context, server_id: str, action: str, protocol: str) -> dict[str, Any]:
    kind = call.body[action]["type"]
    url = await _issue(call, server_id, protocol, kind)
    return {"console": {"type": kind, "url": url}}


@ROUTES.post(
    PATH,
    action="os-getVNCConsole",
    until=5,
    body=_old_body("os-getVNCConsole", "novnc", "xvpvnc"),
    responses=OLD,
    summary="Make a VNC console",
)
async def vnc(call: Context, server_id: str) -> dict[str, Any]:
    """The older form."""
    return await _old(call, server_id, "os-getVNCConsole", "vnc")


@ROUTES.post(
    PATH,
    action="os-getSPICEConsole",
    until=5,
    body=_old_body("os-getSPICEConsole", "spice-html5"),
    responses=OLD,
    summary="Make a SPICE console",
)
async def spice(call: Context, server_id: str) -> dict[str, Any]:
    """The older form."""
    return await _old(call, server_id, "os-getSPICEConsole", "spice")


@ROUTES.post(
    PATH,
    action="os-getSerialConsole",
    until=5,
    body=_old_body("os-getSerialConsole", "serial"),
    responses=OLD,
    summary="Make a serial console",
)
async def serial(call: Context, server_id: str) -> dict[str, Any]:
    """The older form."""
    return await _old(call, server_id, "os-getSerialConsole", "serial")


async def _issue(call: Context, server_id: str, protocol: str, type_: str) -> str:
    """Ask the host where the console listens, keep a token for it; the URL with the token."""
    found = await find(call, server_id, RULE)
    kind = KINDS.get(type_)
    if kind is None or protocol == "rdp":
        raise BadRequest(f"Unavailable console type {type_}.")
    if kind.protocol != protocol:
        raise BadRequest(f"Invalid console type {type_}")
    settings = call.app.settings
    states.check("remote-consoles", found.server)
    cell = require_cell(found, "get_console")
    assert found.server.host is not None
    if not _offered(settings, protocol):
        raise BadRequest(f"Unavailable console type {type_}.")
    try:
        target = await ask(
            call, cell, found.server.host, CONSOLE, server_id, ConsoleAsk(server_id, protocol)
        )
    except (Undelivered, NoReply):
        raise Conflict("Instance not yet ready") from None
    except NotFound:
        raise BadRequest(f"Unavailable console type {type_}.") from None
    token, base = call.ids.uuid(), _base(settings, type_)
    row = ConsoleToken(
        server_id=server_id,
        kind=type_,
        host=target.host,
        port=target.port,
        internal_path=target.internal_path,
        url_base=base,
        expires_at=call.clock.now() + dt.timedelta(seconds=settings.consoleauth.token_ttl),
        tls_port=target.port if target.tls else None,
    )
    await cell.db.run(store.add, token, row)
    query = {"path": f"?token={token}"} if kind.in_path else {"token": token}
    return f"{base}?{urlencode(query)}"


_OPENS = {
    "instance_uuid": str,
    "host": str,
    "port": int,
    "internal_access_path": str | None,
    "tls_port?": since(99, int | None),
}


@ROUTES.get(
    "/os-console-auth-tokens/{token}",
    query=no_query(99),
    responses=answers(console=_OPENS),
    summary="Look a console token up",
)
async def look_up(call: Context, token: str) -> dict[str, Any]:
    """What a token opens; before 2.31 only RDP consoles were told, of which there are none."""
    if call.version < 31:
        raise BadRequest("Before 2.31 only tokens of RDP consoles can be looked up.")
    call.enforce("os_compute_api:os-console-auth-tokens")
    answers = await call.app.cells.gather(store.get, token, now=call.clock.now())
    for _, row in answers.found:
        if row is None:
            continue
        console: dict[str, Any] = {
            "instance_uuid": row.server_id,
            "host": row.host,
            "port": row.port,
            "internal_access_path": row.internal_path,
        }
        if call.version >= 99 and row.kind == "spice-direct":
            console["tls_port"] = row.tls_port
        return {"console": console}
    raise NotFound("Token not found")


@ROUTES.post(
    PATH,
    action="os-getRDPConsole",
    until=5,
    body=_old_body("os-getRDPConsole", "rdp-html5"),
    summary="Refused: no hypervisor has RDP consoles any more",
)
async def rdp(call: Context, server_id: str) -> None:
    """Unlike other removed interfaces this one answers 400, whatever it is asked."""
    raise BadRequest("RDP consoles are not available any more.")
