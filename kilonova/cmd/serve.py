"""``kilonova serve``: one of the embedded neighbours as a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True, help="Run an identity, image, network or volume service by the daemons."
)

Files = Annotated[
    list[Path] | None, typer.Option(help="INI file to read; later ones win.", show_default=False)
]
Address = Annotated[str | None, typer.Option(help="Address to listen on.", show_default=False)]
Port = Annotated[int | None, typer.Option(help="Port to listen on.", show_default=False)]
LogFile = Annotated[str | None, typer.Option(help="Log to this file.", show_default=False)]


SERVICES = {
    "identity": "The identity service, with users and catalog when ``admin_password`` is set.",
    "image": "The image service.",
    "network": "The network service; its hosts run ``kilonova serve network-agent``.",
    "volume": "The block storage service; compute hosts open its directory by the same path.",
    "network-agent": "The embedded network on a host without nova-compute; needs root.",
}


def _add(name: str, about: str) -> None:
    def run(
        config_file: Files = None,
        host: Address = None,
        port: Port = None,
        log_file: LogFile = None,
        debug: Annotated[bool, typer.Option(help="Log debug lines too.")] = False,
    ) -> None:
        from kilonova.services import daemon, embedded  # noqa: PLC0415
        from kilonova.services.startup import Asked  # noqa: PLC0415

        default: dict[str, Any] = {"log_file": log_file} if log_file else {}
        default |= {"debug": True} if debug else {}
        asked = Asked(
            files=tuple(config_file or ()),
            overrides={"default": default} if default else {},
            host=host,
            port=port,
        )
        raise typer.Exit(daemon.main(f"kilonova-{name}", asked, embedded.SERVICES[name]))

    app.command(name, help=about)(run)


for _name, _about in SERVICES.items():
    _add(_name, _about)
