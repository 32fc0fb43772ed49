"""Which cloud a command speaks with, and how it asks its Compute API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kilonova.cmd.output import fail
from kilonova.services import layout

StateDir = Annotated[Path | None, typer.Option(help="Directory of an all-in-one cloud.")]
Config = Annotated[
    list[Path] | None, typer.Option("--config-file", help="INI files of separate daemons.")
]


def files(state_dir: Path | None, config_file: list[Path] | None) -> list[Path]:
    """The INI files meant: those named, or the one of the all-in-one cloud."""
    return config_file or [(state_dir or layout.default_state_dir()) / "nova.conf"]


def ask(
    config: list[Path], path: str, *, what: str, broken: int = 1, seconds: float = 60.0
) -> dict[str, Any]:
    """The document at this path of the cloud's Compute API, asked as the service's own user.

    Ends the command with a sentence and the exit code ``broken`` when there is none.
    """
    import asyncio  # noqa: PLC0415

    from oslo_config.cfg import ConfigFilesNotFoundError  # noqa: PLC0415

    from kilonova.base.errors import Fault  # noqa: PLC0415
    from kilonova.services.startup import Unconfigured  # noqa: PLC0415

    try:
        return asyncio.run(fetch(config, path, what, seconds))
    except (Fault, Unconfigured, ConfigFilesNotFoundError) as error:
        fail(str(error), broken)


async def fetch(config: list[Path], path: str, what: str, seconds: float) -> dict[str, Any]:
    """What ``ask`` prints or ends with; raises Fault, Unconfigured, ConfigFilesNotFoundError."""
    from kilonova.base.clock import SystemClock  # noqa: PLC0415
    from kilonova.clients.keystone import expect  # noqa: PLC0415
    from kilonova.config import settings  # noqa: PLC0415
    from kilonova.services import neighbours  # noqa: PLC0415
    from kilonova.web.client import HttpClient  # noqa: PLC0415

    async with HttpClient() as http:
        cloud = neighbours.connect(settings.load(config), http, SystemClock())
        answer = await cloud.compute.request("GET", path, seconds=seconds)
        document: dict[str, Any] = expect(answer, 200, what=what)
        return document
