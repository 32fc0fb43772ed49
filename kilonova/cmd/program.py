"""The whole ``kilonova`` program: every command, its options and their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kilonova.cmd import audit, explain, lives, sagas, serve
from kilonova.cmd.output import console, fail
from kilonova.services import lifecycle

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="A whole OpenStack compute cloud.",
    pretty_exceptions_enable=False,
)
app.add_typer(sagas.app, name="saga")
app.command()(audit.audit)
app.command()(explain.explain)
app.add_typer(serve.app, name="serve")

StateDir = Annotated[
    Path | None, typer.Option(help="Where everything is kept.", show_default=False)
]


PortBase = Annotated[
    int | None, typer.Option(help="First port; services take this one and the next ones.")
]
Driver = Annotated[str, typer.Option(help="qemu or libvirt (real guests), or fake (simulated).")]
Hosts = Annotated[int, typer.Option(min=1, max=lives.MOST_HOSTS, help="Simulated hosts.")]
Demo = Annotated[
    bool, typer.Option("--demo/--no-demo", help="Make an image and networks to start with.")
]


@app.command()
def up(
    state_dir: StateDir = None,
    port_base: PortBase = None,
    driver: Driver = "qemu",
    hosts: Hosts = 1,
    demo: Demo = True,
    detach: Annotated[
        bool, typer.Option(help="Return when every endpoint answers; the cloud runs on.")
    ] = False,
) -> None:
    """Start the cloud (in the foreground unless --detach); a second start picks up everything."""
    code = lives.up(
        state_dir=state_dir,
        port_base=port_base,
        driver=driver,
        hosts=hosts,
        demo=demo,
        detach=detach,
    )
    raise typer.Exit(code)


@app.command()
def first(
    state_dir: StateDir = None,
    port_base: PortBase = None,
    driver: Driver = "qemu",
    hosts: Hosts = 1,
    demo: Demo = True,
    detach: Annotated[bool, typer.Option(hidden=True)] = True,
) -> None:
    """Start the cloud unless it runs, boot a first server, and say how to log in to it."""
    from kilonova.base.errors import Fault  # noqa: PLC0415
    from kilonova.cmd import first as firsts  # noqa: PLC0415

    try:
        firsts.run(lives.wanted(state_dir, port_base, driver, hosts, demo=demo), console())
    except (lifecycle.CannotStart, Fault) as error:
        fail(str(error))


@app.command()
def down(
    state_dir: StateDir = None,
    guests: Annotated[
        bool, typer.Option("--guests", help="End the guests and take their networks away, too.")
    ] = False,
) -> None:
    """Stop the cloud; its guests run on unless --guests is given."""
    raise typer.Exit(lives.down(state_dir=state_dir, guests=guests))


@app.command()
def status(
    state_dir: StateDir = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what runs and whether it is well; the exit code is 0 if all is."""
    raise typer.Exit(lives.status(state_dir=state_dir, json=json))
