"""``kilonova status``: what runs, where, how long, and whether it is well."""

from __future__ import annotations

from pathlib import Path

import msgspec
import typer

from kilonova.cmd.output import console
from kilonova.services import status
from kilonova.services.status import Status, ago


def show(state_dir: Path, *, as_json: bool) -> bool:
    """Print what runs on ``state_dir``; True when every endpoint is well."""
    seen = status.look(state_dir)
    if as_json:
        shown = {"running": seen is not None, "well": seen is not None and seen.well}
        more = msgspec.to_builtins(seen) if seen is not None else {"state_dir": str(state_dir)}
        typer.echo(msgspec.json.encode({**shown, **more}).decode())
    elif seen is None:
        text = f"No cloud runs on {state_dir}. Start one with: kilonova up"
        console().print(text, highlight=False, soft_wrap=True)
    else:
        _print(seen)
    return seen is not None and seen.well


def _print(seen: Status) -> None:
    from rich.table import Table  # noqa: PLC0415

    out = console()
    table = Table("service", "address", "pid", "version", "up", "state")
    for service in seen.services:
        state = f"[green]{service.state}[/]" if service.state == "OK" else service.state
        pid = str(service.pid or "")
        table.add_row(
            service.name, service.address, pid, service.version, ago(service.uptime), state
        )
    out.print(table)
    agents = f"{seen.agents.get('up', 0)} of {sum(seen.agents.values())} hosts up"
    running = seen.guests.get("running", 0)
    lines = [f"driver {seen.driver}: {agents}, {running} guests running"]
    lines.append("servers: " + (_listed(seen.servers) or "none"))
    living = {state: count for state, count in seen.sagas.items() if count}
    oldest = f", the oldest since {ago(seen.oldest_saga)}" if living else ""
    lines.append("work under way: " + (_listed(living) or "none") + oldest)
    for line in lines:
        out.print(line, highlight=False, soft_wrap=True)
    if seen.stuck_sagas:
        text = f"[red]{seen.stuck_sagas} stuck[/]: see kilonova saga list --stuck"
        out.print(text, highlight=False, soft_wrap=True)
    for guest in seen.ssh:
        text = f"server {guest.server_id} ({guest.name}): ssh -p {guest.port} root@127.0.0.1"
        out.print(text, highlight=False, soft_wrap=True)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
