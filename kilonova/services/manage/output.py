"""Tables for terminals, as the OpenStack tools print them."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with a border and centred titles."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(head), *cells]) for i in range(len(head))]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"

    def line(row: Sequence[str]) -> str:
        return "|" + "|".join(f" {c:^{w}} " for c, w in zip(row, widths, strict=True)) + "|"

    return "\n".join([rule, line(head), rule, *map(line, cells), *([rule] if cells else [])])
