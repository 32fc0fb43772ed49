"""``kilonova audit``: does everything in this cloud match?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kilonova.cmd.output import console, fail
from kilonova.services import layout

if TYPE_CHECKING:
    from kilonova.workflows.audit import AuditReport

SECONDS = 310.0
FOUND, BROKEN = 1, 2


def audit(
    state_dir: Annotated[
        Path | None, typer.Option(help="Directory of an all-in-one cloud.")
    ] = None,
    config_file: Annotated[
        list[Path] | None, typer.Option("--config-file", help="INI files of separate daemons.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Compare servers, allocations, ports, guests and sagas of a running cloud.

    The exit code is 0 when all match, 1 with findings, 2 when the cloud does not answer.
    """
    import msgspec  # noqa: PLC0415
    from oslo_config.cfg import ConfigFilesNotFoundError  # noqa: PLC0415

    from kilonova.base.errors import Fault  # noqa: PLC0415
    from kilonova.services.startup import Unconfigured  # noqa: PLC0415

    files = config_file or [(state_dir or layout.default_state_dir()) / "nova.conf"]
    try:
        report = asyncio.run(fetch(files))
    except (Fault, Unconfigured, ConfigFilesNotFoundError) as error:
        fail(str(error), BROKEN)
    if json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        show(report)
    if report.findings:
        raise typer.Exit(FOUND)


async def fetch(files: list[Path]) -> AuditReport:
    """The report of the cloud those files configure; Fault when it does not answer."""
    import msgspec  # noqa: PLC0415

    from kilonova.base.clock import SystemClock  # noqa: PLC0415
    from kilonova.clients.keystone import expect  # noqa: PLC0415
    from kilonova.config import settings  # noqa: PLC0415
    from kilonova.services import neighbours  # noqa: PLC0415
    from kilonova.web.client import HttpClient  # noqa: PLC0415
    from kilonova.workflows.audit import AuditReport  # noqa: PLC0415

    async with HttpClient() as http:
        cloud = neighbours.connect(settings.load(files), http, SystemClock())
        answer = await cloud.compute.request("GET", "/ext/audit", seconds=SECONDS)
        return msgspec.convert(expect(answer, 200, what="The audit")["audit"], AuditReport)


def show(report: AuditReport) -> None:
    """The report as a table."""
    from rich.table import Column, Table  # noqa: PLC0415

    out = console()
    for sentence in report.unseen:
        out.print(f"Not looked at: {sentence}", highlight=False)
    if not report.findings:
        out.print("[green]Everything matches.[/]")
        return
    table = Table("kind", Column("id", no_wrap=True), "what")
    for finding in report.findings:
        table.add_row(finding.kind, finding.id, finding.sentence)
    out.print(table)
