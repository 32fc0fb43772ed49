"""``kilonova first``: a running cloud with a first server one can log in to."""

from __future__ import annotations

import asyncio
import shlex

from rich.console import Console

from kilonova.services import first, lifecycle
from kilonova.services import layout as layouts
from kilonova.services.progress import screen


def run(wanted: lifecycle.Wanted, console: Console) -> None:
    """Start the cloud unless it runs, make the server unless it is there, say how to log in.

    Raises CannotStart with one sentence that says why not.
    """
    if not layouts.is_held(wanted.state_dir):
        lifecycle.start_detached(wanted, lambda: console, quiet=wanted.demo)
    layout = layouts.read_layout(wanted.state_dir)
    if layout is None:
        raise lifecycle.CannotStart(
            f"The cloud on {wanted.state_dir} is still starting; try again in a moment."
        )
    if not wanted.demo:
        return
    simulated = layouts.read_run(wanted.state_dir).get("driver") == "fake"
    with screen(console) as shown:
        door = asyncio.run(first.make(layout, shown, simulated=simulated))
    _say(wanted, layout, door, console)


def _say(
    wanted: lifecycle.Wanted, layout: layouts.Layout, door: first.Door, console: Console
) -> None:
    def line(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    for said in door.said:
        line(f"  {first.NAME}: {said}")
    console.print(f"[green]The server {first.NAME} is up.[/]", highlight=False)
    if door.address:
        line("Log in:")
        line(f"  {shlex.join(door.command())}")
    else:
        line("It is simulated: there is nothing to log in to.")
    line("Go on:")
    if not wanted.default_place:
        line(f"  export OS_CLIENT_CONFIG_FILE={layout.clouds_yaml}")
    line("  export OS_CLOUD=kilonova        # or kilonova-admin")
    line("  openstack server list")
    line(
        "  openstack server create --image tiny --flavor m1.nano --nic auto "
        "--key-name demo --wait second"
    )
    where = "" if wanted.default_place else f" --state-dir {wanted.state_dir}"
    line(f"  kilonova status{where}")
    line(
        f"Stop it (--guests ends the servers, too; without it they run on):\n  kilonova down{where}"
    )
