"""Looking at guests: the serial log, and where a console can be reached."""

from __future__ import annotations

from kilonova.base.errors import NotSupported
from kilonova.compute.operations.handlers import At, handles
from kilonova.domain.guest import ConsoleTarget
from kilonova.domain.operations import CONSOLE, CONSOLE_LOG, ConsoleAsk, ConsoleLog, ConsoleText
from kilonova.virt.driver import HasConsoles


@handles(CONSOLE_LOG, changes=False)
async def console_log(at: At, args: ConsoleLog) -> ConsoleText:
    """The end of the serial console as text; what is no UTF-8 is replaced."""
    text = (await at.driver.console_log(args.server_id)).decode(errors="replace")
    return ConsoleText(text if args.length is None else last_lines(text, args.length))


@handles(CONSOLE, changes=False)
async def console(at: At, args: ConsoleAsk) -> ConsoleTarget:
    """Where a console of that kind is served."""
    if not isinstance(at.driver, HasConsoles):
        raise NotSupported(f"The hypervisor of host {at.host} has no consoles.")
    return await at.driver.console(args.server_id, args.kind)


def last_lines(text: str, length: int) -> str:
    """The last ``length`` lines; a negative length means all."""
    if length < 0:
        return text
    # What follows the last line feed is a line as well, as in Nova and as its clients count.
    return "\n".join(text.split("\n")[-length:]) if length else ""
