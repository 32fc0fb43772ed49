"""Where commands print to; Rich is imported when something is printed with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from rich.console import Console


def console(*, stderr: bool = False) -> Console:
    """The terminal."""
    from rich.console import Console  # noqa: PLC0415

    return Console(stderr=stderr)


def fail(text: str, code: int = 1) -> NoReturn:
    """End the command with one sentence."""
    console(stderr=True).print(f"[red]kilonova:[/] {text}", highlight=False, soft_wrap=True)
    import typer  # noqa: PLC0415 (slow, and a quick command does without)

    raise typer.Exit(code)
