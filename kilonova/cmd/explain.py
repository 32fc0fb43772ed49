"""``kilonova explain``: why did a server find no host?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kilonova.cmd.output import console, fail
from kilonova.services import layout

if TYPE_CHECKING:
    from rich.tree import Tree

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
    import msgspec  # noqa: PLC0415
    from oslo_config.cfg import ConfigFilesNotFoundError  # noqa: PLC0415

    from kilonova.base.errors import Fault  # noqa: PLC0415
    from kilonova.services.startup import Unconfigured  # noqa: PLC0415

    files = config_file or [(state_dir or layout.default_state_dir()) / "nova.conf"]
    try:
        found = asyncio.run(fetch(files, name))
    except (Fault, Unconfigured, ConfigFilesNotFoundError) as error:
        fail(str(error))
    if json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    for one in found:
        console().print(tree(one), highlight=False)


async def fetch(files: list[Path], name: str) -> list[dict[str, Any]]:
    """The explanations of a request or server; NotFound."""
    from urllib.parse import quote  # noqa: PLC0415

    from kilonova.base.clock import SystemClock  # noqa: PLC0415
    from kilonova.clients.keystone import expect  # noqa: PLC0415
    from kilonova.config import settings  # noqa: PLC0415
    from kilonova.services import neighbours  # noqa: PLC0415
    from kilonova.web.client import HttpClient  # noqa: PLC0415

    async with HttpClient() as http:
        cloud = neighbours.connect(settings.load(files), http, SystemClock())
        answer = await cloud.compute.request("GET", f"/ext/explain/{quote(name, safe='')}")
        found: list[dict[str, Any]] = expect(answer, 200, what="The explanation")["explanations"]
        return found


def tree(one: dict[str, Any]) -> Tree:
    """One explanation for people."""
    from rich.tree import Tree  # noqa: PLC0415

    root = Tree(f"[bold]{_plain(one['reason'])}[/]")
    root.add(f"server {one['server_id']}, request {one['request_id']}, {one['at'][:19]} UTC")
    if one["changes"]:
        branch = root.add("[green]It would fit if one of these were so:[/]")
        for change in one["changes"]:
            _change(branch, change)
    if one["placement"] is not None:
        told = one["placement"]
        branch = root.add(f"Placement left {told['left']} of {told['providers']} providers")
        for obstacle in told["obstacles"]:
            branch.add(_plain(_obstacle(obstacle)))
    for step in one["steps"]:
        if step["left"] < step["before"]:
            branch = root.add(_plain(f"{step['step']} left {step['left']} of {step['before']}"))
            _hosts(branch, step.get("hosts") or {})
        elif not step["before"] and step["step"] != one["reason"]:
            root.add(_plain(step["step"]))
    if one.get("failures"):
        branch = root.add("Hosts that were chosen and did not take it")
        _hosts(branch, {failure["host"]: failure["text"] for failure in one["failures"]})
    return root


def _change(branch: Tree, change: dict[str, Any]) -> None:
    where = f" [dim]({_plain(change['host'])})[/]" if change.get("host") else ""
    parts = change.get("parts") or []
    node = branch.add(("All of these together:" if parts else _plain(change["text"])) + where)
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
        branch.add(_plain(f"{host}: {why}"))
    if len(hosts) > MOST_HOSTS:
        branch.add(f"and {len(hosts) - MOST_HOSTS} more")


def _plain(text: str) -> str:
    """Text whose brackets are no markup."""
    return text.replace("[", "\\[")
