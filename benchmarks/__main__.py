"""Take the project's figures and print them: ``python -m benchmarks [NAME …]``."""

from __future__ import annotations

import argparse
import asyncio
import importlib

from rich.console import Console

from benchmarks.figures import Figure, show

NAMES = {
    "servers": "POST /servers to ACTIVE on simulated hosts, one and fifty",
    "reads": "CPU of GET /servers/detail of 1,000 servers and of GET /servers/{id}",
    "cells": "lists of 100,000 servers in three cells: pages, searched and sorted; usage",
    "idle": "memory and CPU of a cloud that has nothing to do; its second start",
    "guests": "API call to QEMU running, against the same command line started bare",
    "scheduler": "CPU of a decision over 1,000 and 10,000 hosts, with and without a large group",
    "placement": "Placement at 1,000, 10,000 and 100,000 providers: candidates, claims, memory",
    "clone": "from a fresh clone to the first server ACTIVE, without downloads",
}


def main() -> None:
    """Run the named benchmarks, or all."""
    names = "\n".join(f"  {name:10}{text}" for name, text in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=f"Takes the figures; all of them without a name.\n\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="*", help="which")
    chosen = parser.parse_args().name or list(NAMES)
    for name in chosen:
        if name not in NAMES:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(NAMES)}")
    console = Console()
    figures: list[Figure] = []
    for name in chosen:
        console.print(f"[dim]{name}: {NAMES[name]} …[/]", highlight=False)
        made = asyncio.run(importlib.import_module(f"benchmarks.{name}").measure())
        figures += made
        show(made, console)
    if len(chosen) > 1:
        show(figures, console)


if __name__ == "__main__":
    main()
