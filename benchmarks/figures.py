"""A figure with how it was taken, and a table of them."""

from __future__ import annotations

import msgspec
from rich.console import Console
from rich.table import Table


class Figure(msgspec.Struct, frozen=True):
    """One measured number. ``aim`` is what was hoped for, ``how`` how it was taken."""

    what: str
    value: float
    unit: str
    aim: str = ""
    how: str = ""


def show(figures: list[Figure], console: Console) -> None:
    """Print them."""
    table = Table("figure", "measured", "aim", "how")
    for figure in figures:
        table.add_row(figure.what, f"{figure.value:.3g} {figure.unit}", figure.aim, figure.how)
    console.print(table)
