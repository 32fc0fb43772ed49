"""``kilonova explain``: why did a server find no host?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from kilonova.cmd.cloud import Config, StateDir, ask, files
from kilonova.cmd.output import console

if TYPE_CHECKING:
    from rich.tree import Tree

MOST_HOSTS = 10
WHAT = "The explanation"


def explain(
    name: Annotated[str, typer.Argument(help="Request id (req-…) or server id.")],
    state_dir: StateDir = None,
    config_file: Config = None,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say why a server found no host, and what would have to be different.

    The exit code is 1 when nothing is known of that request or server.
    """
    import msgspec  # noqa: PLC0415

    found = ask(files(state_dir, config_file), path(name), what=WHAT)["explanations"]
    if json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    for one in found:
        console().print(tree(one), highlight=False)


def path(name: str) -> str:
    """Where the explanations of a request or a server are."""
    return f"/ext/explain/{quote(name, safe='')}"


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
