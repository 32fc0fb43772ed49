"""Telling a person what happens: steps with a bar or a spinner, or lines for another process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:  # a cloud in the background shows nothing itself
    from rich.console import Console
    from rich.progress import Progress


class Line(msgspec.Struct, omit_defaults=True):
    """One message of a starting cloud: a step with its share done, a note, the end."""

    step: str = ""
    share: float | None = None
    note: str = ""
    error: str = ""
    ready: bool = False


class Tell(Protocol):
    """What a starting cloud speaks to."""

    def step(self, text: str, share: float | None = None) -> None:
        """This is being done now; ``share`` of it (0 to 1) when that is known."""

    def note(self, text: str) -> None:
        """Something the person should know."""


class Silence:
    """Says nothing."""

    def step(self, text: str, share: float | None = None) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Pipe:
    """Writes ``Line``s as JSON to a file descriptor; a reader that has gone is no error."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def step(self, text: str, share: float | None = None) -> None:
        self.send(Line(step=text, share=share))

    def note(self, text: str) -> None:
        self.send(Line(note=text))

    def send(self, line: Line) -> None:
        """Write one line."""
        with contextlib.suppress(OSError):
            os.write(self._fd, msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        """No more lines."""
        with contextlib.suppress(OSError):
            os.close(self._fd)


class Screen:
    """Shows steps on a terminal, one line each with its time; plain lines when it is none."""

    def __init__(self, console: Console, progress: Progress | None) -> None:
        self._console = console
        self._progress = progress
        self._task: int | None = None
        self._text = ""

    def step(self, text: str, share: float | None = None) -> None:
        if self._progress is None:
            if text != self._text:
                self._console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)
            self._text = text
            return
        if text != self._text:
            self.done()
            self._task = self._progress.add_task(text, total=None)
            self._text = text
        if share is not None and self._task is not None:
            task = self._progress.tasks[-1].id
            self._progress.update(task, total=1.0, completed=share)

    def note(self, text: str) -> None:
        self._console.print(f"  [yellow]note[/] {text}", highlight=False)

    def done(self) -> None:
        """The present step is over."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._progress.tasks[-1].id, total=1.0, completed=1.0)
            self._task = None


@contextlib.contextmanager
def screen(console: Console) -> Iterator[Screen]:
    """A ``Screen`` that ends its last step when the block ends."""
    if not console.is_terminal:
        yield Screen(console, None)
        return
    from rich import progress as bars  # noqa: PLC0415

    columns = (
        bars.SpinnerColumn(finished_text="[green]✓[/]"),
        bars.TextColumn("{task.description}"),
        bars.BarColumn(bar_width=24),
        bars.TimeElapsedColumn(),
    )
    with bars.Progress(*columns, console=console) as progress:
        shown = Screen(console, progress)
        yield shown
        shown.done()
