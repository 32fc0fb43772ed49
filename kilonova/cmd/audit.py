"""``kilonova audit``: does everything in this cloud match?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kilonova.cmd.cloud import Config, StateDir, ask, files
from kilonova.cmd.output import console

if TYPE_CHECKING:
    from kilonova.workflows.audit import AuditReport

SECONDS = 310.0
FOUND, BROKEN = 1, 2


def audit(
    state_dir: StateDir = None,
    config_file: Config = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Compare servers, allocations, ports, guests and sagas of a running cloud.

    The exit code is 0 when all match, 1 with findings, 2 when the cloud does not answer.
    """
    import msgspec  # noqa: PLC0415

    from kilonova.workflows.audit import AuditReport  # noqa: PLC0415

    given = files(state_dir, config_file)
    answer = ask(given, "/ext/audit", what="The audit", broken=BROKEN, seconds=SECONDS)
    report = msgspec.convert(answer["audit"], AuditReport)
    if json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        show(report)
    if report.findings:
        raise typer.Exit(FOUND)


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
