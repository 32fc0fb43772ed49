"""``kilonova``: start, look at and end a whole cloud; look after its sagas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kilonova.cmd import audit, explain, sagas, serve
from kilonova.cmd.output import console, fail
from kilonova.services import layout as layouts
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
Hosts = Annotated[int, typer.Option(min=1, max=20000, help="Simulated hosts.")]
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
    wanted = _wanted(state_dir, port_base, driver, hosts, demo)
    try:
        if detach:
            lifecycle.start_detached(wanted, console)
        else:
            import gc  # noqa: PLC0415

            # What a start makes stays: to look for garbage in it again and again takes a fifth
            # of the time.
            gc.disable()
            from kilonova.services import foreground  # noqa: PLC0415 (slow, not for --detach)

            foreground.run(wanted, console())
    except lifecycle.CannotStart as error:
        fail(str(error))


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
        firsts.run(_wanted(state_dir, port_base, driver, hosts, demo), console())
    except (lifecycle.CannotStart, Fault) as error:
        fail(str(error))


def _wanted(
    state_dir: Path | None, port_base: int | None, driver: str, hosts: int, demo: bool
) -> lifecycle.Wanted:
    return lifecycle.Wanted(
        state_dir=(state_dir or layouts.default_state_dir()).absolute(),
        port_base=port_base,
        driver=driver,
        hosts=hosts,
        demo=demo,
        default_place=state_dir is None,
    )


@app.command()
def down(
    state_dir: StateDir = None,
    guests: Annotated[
        bool, typer.Option("--guests", help="End the guests and take their networks away, too.")
    ] = False,
) -> None:
    """Stop the cloud; its guests run on unless --guests is given."""
    try:
        lifecycle.stop(
            (state_dir or layouts.default_state_dir()).absolute(), typer.echo, guests=guests
        )
    except lifecycle.CannotStart as error:
        fail(str(error))


@app.command()
def status(
    state_dir: StateDir = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what runs and whether it is well; the exit code is 0 if all is."""
    from kilonova.cmd import status as statuses  # noqa: PLC0415

    place = (state_dir or layouts.default_state_dir()).absolute()
    if not statuses.show(place, as_json=json):
        raise typer.Exit(1)


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
