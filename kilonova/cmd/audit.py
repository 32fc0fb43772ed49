"""``kilonova audit``: does everything in this cloud match?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from oslo_config.cfg import ConfigFilesNotFoundError
from rich.console import Console
from rich.table import Column, Table

from kilonova.base.clock import SystemClock
from kilonova.base.errors import Fault
from kilonova.clients.keystone import expect
from kilonova.config import settings
from kilonova.services import layout, neighbours
from kilonova.services.startup import Unconfigured
from kilonova.web.client import HttpClient
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
    files = config_file or [(state_dir or layout.default_state_dir()) / "nova.conf"]
    try:
        report = asyncio.run(fetch(files))
    except (Fault, Unconfigured, ConfigFilesNotFoundError) as error:
        Console(stderr=True).print(f"[red]kilonova:[/] {error}", highlight=False)
        raise typer.Exit(BROKEN) from None
    if json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        show(report)
    if report.findings:
        raise typer.Exit(FOUND)


async def fetch(files: list[Path]) -> AuditReport:
    """The report of the cloud those files configure; Fault when it does not answer."""
    async with HttpClient() as http:
        cloud = neighbours.connect(settings.load(files), http, SystemClock())
        answer = await cloud.compute.request("GET", "/ext/audit", seconds=SECONDS)
        return msgspec.convert(expect(answer, 200, what="The audit")["audit"], AuditReport)


def show(report: AuditReport) -> None:
    """The report as a table."""
    console = Console()
    for sentence in report.unseen:
        console.print(f"Not looked at: {sentence}", highlight=False)
    if not report.findings:
        console.print("[green]Everything matches.[/]")
        return
    table = Table("kind", Column("id", no_wrap=True), "what")
    for finding in report.findings:
        table.add_row(finding.kind, finding.id, finding.sentence)
    console.print(table)
