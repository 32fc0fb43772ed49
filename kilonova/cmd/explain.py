"""``kilonova explain``: why did a server find no host?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer
from oslo_config.cfg import ConfigFilesNotFoundError
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from kilonova.base.clock import SystemClock
from kilonova.base.errors import Fault
from kilonova.clients.keystone import expect
from kilonova.config import settings
from kilonova.services import layout, neighbours
from kilonova.services.startup import Unconfigured
from kilonova.web.client import HttpClient

MOST_HOSTS = 10


def explain(
    name: Annotated[str, typer.Argument(help="Request id (req-…) or server id.")],
    state_dir: Annotated[
        Path | None, typer.Option(help="Directory of an all-in-one cloud.")
    ] = None,
    config_file: Annotated[
        list[Path] | None, typer.Option("--config-file", help="INI files of separate daemons.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say why a server found no host, and what would have to be different.

    The exit code is 1 when nothing is known of that request or server.
    """
    files = config_file or [(state_dir or layout.default_state_dir()) / "nova.conf"]
    try:
        found = asyncio.run(fetch(files, name))
    except (Fault, Unconfigured, ConfigFilesNotFoundError) as error:
        Console(stderr=True).print(f"[red]kilonova:[/] {error}", highlight=False)
        raise typer.Exit(1) from None
    if json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    console = Console()
    for one in found:
        console.print(tree(one), highlight=False)


async def fetch(files: list[Path], name: str) -> list[dict[str, Any]]:
    """The explanations of a request or server; NotFound."""
    async with HttpClient() as http:
        cloud = neighbours.connect(settings.load(files), http, SystemClock())
        answer = await cloud.compute.request("GET", f"/ext/explain/{quote(name, safe='')}")
        found: list[dict[str, Any]] = expect(answer, 200, what="The explanation")["explanations"]
        return found


def tree(one: dict[str, Any]) -> Tree:
    """One explanation for people."""
    root = Tree(f"[bold]{escape(one['reason'])}[/]")
    root.add(f"server {one['server_id']}, request {one['request_id']}, {one['at'][:19]} UTC")
    if one["changes"]:
        branch = root.add("[green]It would fit if one of these were so:[/]")
        for change in one["changes"]:
            _change(branch, change)
    if one["placement"] is not None:
        told = one["placement"]
        branch = root.add(f"Placement left {told['left']} of {told['providers']} providers")
        for obstacle in told["obstacles"]:
            branch.add(escape(_obstacle(obstacle)))
    for step in one["steps"]:
        if step["left"] < step["before"]:
            branch = root.add(escape(f"{step['step']} left {step['left']} of {step['before']}"))
            _hosts(branch, step.get("hosts") or {})
        elif not step["before"] and step["step"] != one["reason"]:
            root.add(escape(step["step"]))
    if one.get("failures"):
        branch = root.add("Hosts that were chosen and did not take it")
        _hosts(branch, {failure["host"]: failure["text"] for failure in one["failures"]})
    return root


def _change(branch: Tree, change: dict[str, Any]) -> None:
    where = f" [dim]({escape(change['host'])})[/]" if change.get("host") else ""
    parts = change.get("parts") or []
    node = branch.add(("All of these together:" if parts else escape(change["text"])) + where)
    for part in parts:
        _change(node, part)


def _obstacle(one: dict[str, Any]) -> str:
    text = f"{one['constraint']} {', '.join(one['names'])}".strip()
    if one["group"]:
        text += f" of group {one['group']}"
    if one["asked"] is not None:
        most = one["most"] if one["most"] is not None else 0
        text += f": asked {one['asked']}, at most {most} in one place"
    return f"{text} – left out {one['removed']}" if one["removed"] else text


def _hosts(branch: Tree, hosts: dict[str, str]) -> None:
    for host, why in list(hosts.items())[:MOST_HOSTS]:
        branch.add(escape(f"{host}: {why}"))
    if len(hosts) > MOST_HOSTS:
        branch.add(f"and {len(hosts) - MOST_HOSTS} more")
