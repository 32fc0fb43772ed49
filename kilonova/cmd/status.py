"""``kilonova status``: what runs, where, how long, and whether it is well."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from kilonova.services import status
from kilonova.services.status import Status, ago

RED, GREEN = 31, 32


def show(state_dir: Path, *, as_json: bool) -> bool:
    """Print what runs on ``state_dir``; True when every endpoint is well."""
    seen = status.look(state_dir)
    if as_json:
        shown = {"running": seen is not None, "well": seen is not None and seen.well}
        more = msgspec.to_builtins(seen) if seen is not None else {"state_dir": str(state_dir)}
        print(msgspec.json.encode({**shown, **more}).decode())
    elif seen is None:
        text = f"No cloud runs on {state_dir}. Start one with: kilonova up"
        print(text)
    else:
        _print(seen)
    return seen is not None and seen.well


def _print(seen: Status) -> None:
    # By hand: importing Rich would take as long as everything else here.
    rows = [("SERVICE", "ADDRESS", "PID", "VERSION", "UP", "STATE")]
    for one in seen.services:
        pid = str(one.pid or "")
        rows.append((one.name, one.address, pid, one.version, ago(one.uptime), one.state))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        *cells, state = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        colour = {"STATE": 0, "OK": GREEN}.get(state.rstrip(), RED)
        print("  ".join([*cells, _styled(state.rstrip(), colour)]))
    agents = f"{seen.agents.get('up', 0)} of {sum(seen.agents.values())} hosts up"
    running = seen.guests.get("running", 0)
    lines = [f"driver {seen.driver}: {agents}, {running} guests running"]
    lines.append("servers: " + (_listed(seen.servers) or "none"))
    living = {state: count for state, count in seen.sagas.items() if count}
    oldest = f", the oldest since {ago(seen.oldest_saga)}" if living else ""
    lines.append("work under way: " + (_listed(living) or "none") + oldest)
    for line in lines:
        print(line)
    if seen.stuck_sagas:
        stuck = _styled(f"{seen.stuck_sagas} stuck", RED)
        print(f"{stuck}: see kilonova saga list --stuck")
    for guest in seen.ssh:
        text = f"server {guest.server_id} ({guest.name}): ssh -p {guest.port} root@127.0.0.1"
        print(text)


def _styled(text: str, colour: int) -> str:
    if not colour or not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
