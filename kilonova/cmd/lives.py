"""``kilonova up``, ``down`` and ``status``: a cloud's life, without the library of commands."""

from __future__ import annotations

import sys
from pathlib import Path

from kilonova.cmd.output import console
from kilonova.services import layout as layouts
from kilonova.services import lifecycle

MOST_HOSTS = 20000


def up(
    *,
    state_dir: Path | None = None,
    port_base: int | None = None,
    driver: str = "qemu",
    hosts: int = 1,
    demo: bool = True,
    detach: bool = False,
) -> int:
    """Start the cloud; the exit code."""
    wish = wanted(state_dir, port_base, driver, hosts, demo=demo)
    try:
        if detach:
            lifecycle.start_detached(wish, console)
        else:
            _foreground(wish)
    except lifecycle.CannotStart as error:
        return _said(error)
    return 0


def _foreground(wish: lifecycle.Wanted) -> None:
    import gc  # noqa: PLC0415

    # What a start makes stays: to look for garbage in it again and again takes a fifth of the time.
    gc.disable()
    from kilonova.services import foreground  # noqa: PLC0415 (slow, and not for --detach)

    foreground.run(wish, console())


def wanted(
    state_dir: Path | None, port_base: int | None, driver: str, hosts: int, *, demo: bool
) -> lifecycle.Wanted:
    """The cloud that the options of ``up`` and ``first`` mean."""
    return lifecycle.Wanted(
        state_dir=_place(state_dir),
        port_base=port_base,
        driver=driver,
        hosts=hosts,
        demo=demo,
        default_place=state_dir is None,
    )


def down(*, state_dir: Path | None = None, guests: bool = False) -> int:
    """Stop the cloud; the exit code."""
    try:
        lifecycle.stop(_place(state_dir), print, guests=guests)
    except lifecycle.CannotStart as error:
        return _said(error)
    return 0


def status(*, state_dir: Path | None = None, json: bool = False) -> int:
    """Show what runs; 0 if all of it is well."""
    from kilonova.cmd import status as statuses  # noqa: PLC0415

    return 0 if statuses.show(_place(state_dir), as_json=json) else 1


def _place(state_dir: Path | None) -> Path:
    return (state_dir or layouts.default_state_dir()).absolute()


def _said(error: lifecycle.CannotStart) -> int:
    print(f"kilonova: {error}", file=sys.stderr)
    return 1
