"""``kilonova saga``: look at the work under way, and help what is stuck."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from kilonova.cmd.cloud import Config, StateDir, files
from kilonova.cmd.output import console, fail

if TYPE_CHECKING:
    from kilonova.db.database import Database
    from kilonova.workflows import operate

T = TypeVar("T")
ID_WIDTH = 36

app = typer.Typer(no_args_is_help=True, help="Look at the work under way; help what is stuck.")


@app.command("list")
def list_(
    stuck: Annotated[bool, typer.Option("--stuck", help="Only what waits for a person.")] = False,
    ended: Annotated[bool, typer.Option("--all", help="What has ended, too.")] = False,
    server: Annotated[str | None, typer.Option(help="Of one server.")] = None,
    state_dir: StateDir = None,
    config_file: Config = None,
) -> None:
    """List sagas."""
    from rich.table import Column, Table  # noqa: PLC0415

    from kilonova.workflows import operate  # noqa: PLC0415

    async def work(dbs: Mapping[str, Database]) -> list[operate.SagaView]:
        return await operate.list_sagas(dbs, stuck=stuck, ended=ended, server_id=server)

    # An id that is cut off cannot be given to `show`.
    wide = Column("id", no_wrap=True, min_width=ID_WIDTH)
    table = Table(wide, "saga", "server", "state", "step", "since", "error")
    for view in _run(work, state_dir, config_file):
        since = dt.datetime.fromtimestamp(view.created_at, dt.UTC)
        table.add_row(
            view.id,
            view.name,
            view.server_id or "",
            view.state,
            view.step,
            f"{since:%Y-%m-%d %H:%M:%S}",
            view.error,
        )
    console().print(table)


@app.command()
def show(saga_id: str, state_dir: StateDir = None, config_file: Config = None) -> None:
    """Show a saga with its steps and what would be taken back."""
    from rich.table import Table  # noqa: PLC0415

    from kilonova.workflows import operate  # noqa: PLC0415

    async def work(dbs: Mapping[str, Database]) -> operate.SagaDetail:
        return await operate.show_saga(dbs, saga_id)

    detail = _run(work, state_dir, config_file)
    out = console()
    view = detail.saga
    out.print(f"{view.name} {view.id}: {view.state} {view.error}", highlight=False)
    table = Table("step", "status", "host", "seconds")
    for step in detail.steps:
        spent = f"{step.finished_at - step.started_at:.3f}" if step.finished_at else ""
        table.add_row(step.name, step.status, step.host or "", spent)
    out.print(table)
    if detail.undo:
        table = Table("to take back", "with", "state", "tries", "error")
        for entry in detail.undo:
            table.add_row(entry.step, entry.undo, entry.state, str(entry.tries), entry.error or "")
        out.print(table)


@app.command()
def retry(saga_id: str, state_dir: StateDir = None, config_file: Config = None) -> None:
    """Let a stuck saga try again now."""
    from kilonova.base.clock import SystemClock  # noqa: PLC0415
    from kilonova.workflows import operate  # noqa: PLC0415

    async def work(dbs: Mapping[str, Database]) -> None:
        await operate.retry_saga(dbs, saga_id, SystemClock())

    _run(work, state_dir, config_file)
    console().print("It will be tried again.")


@app.command()
def skip(saga_id: str, state_dir: StateDir = None, config_file: Config = None) -> None:
    """Leave out what a stuck saga is stuck at; look at the audit afterwards."""
    from kilonova.base.clock import SystemClock  # noqa: PLC0415
    from kilonova.workflows import operate  # noqa: PLC0415

    async def work(dbs: Mapping[str, Database]) -> str:
        return await operate.skip_saga(dbs, saga_id, SystemClock())

    console().print(f"Left out: {_run(work, state_dir, config_file)}", highlight=False)


def _run(
    work: Callable[[Mapping[str, Database]], Awaitable[T]],
    state_dir: Path | None,
    config_file: list[Path] | None,
) -> T:
    import asyncio  # noqa: PLC0415

    from kilonova.base.errors import Fault  # noqa: PLC0415
    from kilonova.config import settings  # noqa: PLC0415
    from kilonova.services import databases  # noqa: PLC0415
    from kilonova.services.conductor import API  # noqa: PLC0415
    from kilonova.services.startup import Unconfigured  # noqa: PLC0415

    async def run() -> T:
        read = settings.load(files(state_dir, config_file))
        api = databases.open_api(read)
        cells = await databases.load_cells(read, api)
        try:
            return await work({API: api, **{cell.id: cell.db for cell in cells.all}})
        finally:
            databases.close(api, cells)

    try:
        return asyncio.run(run())
    except (Fault, Unconfigured) as error:
        fail(str(error))
