"""Which database belongs to which cell, and asking many cells at once with a deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import msgspec

from kilonova.base.errors import Unavailable
from kilonova.db.database import Database, Tx

P = ParamSpec("P")
T = TypeVar("T")

CELL0 = "00000000-0000-0000-0000-000000000000"
CELL_TIMEOUT = 60.0

log = logging.getLogger(__name__)


class Cell(msgspec.Struct, frozen=True):
    """A cell and its database. ``disabled``: no new server goes there."""

    id: str
    name: str
    db: Database
    transport_url: str = ""
    disabled: bool = False

    @property
    def is_cell0(self) -> bool:
        """Whether it is the one for servers that found no host."""
        return self.id == CELL0


class Gathered(msgspec.Struct, Generic[T]):
    """What the cells that answered said, and which did not answer."""

    found: list[tuple[Cell, T]]
    down: list[Cell]

    def rows(self) -> list[Any]:
        """All items of list answers, cell after cell."""
        return [row for _, rows in self.found for row in rows]  # type: ignore[attr-defined]


class Cells:
    """All cells of the cloud; always holds cell0."""

    def __init__(self, cells: Iterable[Cell], *, deadline: float = CELL_TIMEOUT) -> None:
        self._cells = {cell.id: cell for cell in cells}
        self._deadline = deadline
        if CELL0 not in self._cells:
            raise ValueError("the cells must include cell0")

    @property
    def all(self) -> Sequence[Cell]:
        """Every cell, cell0 too."""
        return tuple(self._cells.values())

    @property
    def cell0(self) -> Cell:
        """The cell of servers without a host."""
        return self._cells[CELL0]

    @property
    def real(self) -> Sequence[Cell]:
        """The cells that have hosts."""
        return tuple(cell for cell in self._cells.values() if not cell.is_cell0)

    def get(self, cell_id: str) -> Cell:
        """The cell of that id; Unavailable when this process does not know it (yet)."""
        try:
            return self._cells[cell_id]
        except KeyError:
            raise Unavailable(f"The cell {cell_id} is not known here.") from None

    def replace(self, cells: Iterable[Cell]) -> None:
        """Take another set of cells (after they were read again)."""
        self._cells = {cell.id: cell for cell in cells}

    async def gather(
        self,
        work: Callable[Concatenate[Tx, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Gathered[T]:
        """``work`` on every cell at once as reading transactions."""
        return await self.ask(self.all, work, *args, **kwargs)

    async def ask(
        self,
        cells: Sequence[Cell],
        work: Callable[Concatenate[Tx, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Gathered[T]:
        """The same on these cells. Cells that are down or too slow are told, not raised."""

        async def one(cell: Cell) -> tuple[Cell, T] | None:
            # Not asyncio.timeout: a cancelled read waits for its thread, a hanging cell would too.
            task = asyncio.create_task(cell.db.read(work, *args, **kwargs))
            try:
                await asyncio.wait({task}, timeout=self._deadline)
                if task.done():
                    return cell, task.result()
                log.warning("cell %s does not answer within %g s", cell.name, self._deadline)
            except Unavailable as error:
                log.warning("cell %s does not answer: %s", cell.name, error)
            finally:
                task.cancel()
            return None

        if len(cells) == 1:
            answers = [await one(cells[0])]
        else:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(cell)) for cell in cells]
            answers = [task.result() for task in tasks]
        return Gathered(
            [answer for answer in answers if answer is not None],
            [cell for cell, answer in zip(cells, answers, strict=True) if answer is None],
        )


def by_id(cells: Iterable[Cell]) -> Mapping[str, Cell]:
    """Id → cell."""
    return {cell.id: cell for cell in cells}
