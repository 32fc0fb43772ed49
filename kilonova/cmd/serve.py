"""``kilonova serve``: one of the embedded neighbours as a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kilonova.services import daemon, embedded
from kilonova.services.daemon import Compose
from kilonova.services.startup import Asked

app = typer.Typer(
    no_args_is_help=True, help="Run an identity, image, network or volume service by the daemons."
)

Files = Annotated[
    list[Path] | None, typer.Option(help="INI file to read; later ones win.", show_default=False)
]
Address = Annotated[str | None, typer.Option(help="Address to listen on.", show_default=False)]
Port = Annotated[int | None, typer.Option(help="Port to listen on.", show_default=False)]
LogFile = Annotated[str | None, typer.Option(help="Log to this file.", show_default=False)]


def _add(name: str, compose: Compose) -> None:
    def run(
        config_file: Files = None,
        host: Address = None,
        port: Port = None,
        log_file: LogFile = None,
        debug: Annotated[bool, typer.Option(help="Log debug lines too.")] = False,
    ) -> None:
        default: dict[str, Any] = {"log_file": log_file} if log_file else {}
        default |= {"debug": True} if debug else {}
        asked = Asked(
            files=tuple(config_file or ()),
            overrides={"default": default} if default else {},
            host=host,
            port=port,
        )
        raise typer.Exit(daemon.main(f"kilonova-{name}", asked, compose))

    app.command(name, help=compose.__doc__)(run)


for _name, _compose in embedded.SERVICES.items():
    _add(_name, _compose)
