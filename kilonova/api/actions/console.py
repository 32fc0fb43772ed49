"""``os-getConsoleOutput``."""

from __future__ import annotations

from kilonova.api.actions.power import PATH
from kilonova.api.agents import ask
from kilonova.api.find import find, require_cell
from kilonova.api.schemas import closed
from kilonova.base.errors import Conflict
from kilonova.context import Context, Services
from kilonova.domain import states
from kilonova.domain.operations import CONSOLE_LOG, ConsoleLog
from kilonova.messaging.bus import NoReply, Undelivered
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers

ROUTES: Routes[Services] = Routes(tag="server actions")

BODY = Schema(
    closed(
        {
            "os-getConsoleOutput": {
                "type": "object",
                "properties": {
                    "length": {
                        "type": ["integer", "string", "null"],
                        "minimum": -1,
                        "pattern": "^-?[0-9]+$",
                    }
                },
                "additionalProperties": False,
            }
        },
        "os-getConsoleOutput",
    )
)


@ROUTES.post(
    PATH,
    action="os-getConsoleOutput",
    body=BODY,
    responses=answers(output=str),
    summary="Read the serial console",
)
async def output(call: Context, server_id: str) -> dict[str, str]:
    """The last ``length`` lines of the serial console (all that is kept without it)."""
    found = await find(call, server_id, "os_compute_api:os-console-output")
    states.check("os-getConsoleOutput", found.server)
    cell = require_cell(found, "get_console_output")
    wanted = call.body["os-getConsoleOutput"].get("length")
    length = None if wanted is None or int(wanted) < 0 else int(wanted)
    assert found.server.host is not None
    try:
        text = await ask(
            call, cell, found.server.host, CONSOLE_LOG, server_id, ConsoleLog(server_id, length)
        )
    except (Undelivered, NoReply):
        raise Conflict(
            f"Unable to get console log of instance {server_id}: its host is down."
        ) from None
    return {"output": text.output}
