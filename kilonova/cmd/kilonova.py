"""``kilonova``: plain words asked often are understood here, all others by the whole program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from kilonova.cmd import lives

# command → option → the argument of the function in `lives`, and a type or the value of a flag
OPTIONS: dict[str, dict[str, tuple[str, object]]] = {
    "up": {
        "--state-dir": ("state_dir", Path),
        "--port-base": ("port_base", int),
        "--driver": ("driver", str),
        "--hosts": ("hosts", int),
        "--demo": ("demo", True),
        "--no-demo": ("demo", False),
        "--detach": ("detach", True),
        "--no-detach": ("detach", False),
    },
    "down": {"--state-dir": ("state_dir", Path), "--guests": ("guests", True)},
    "status": {"--state-dir": ("state_dir", Path), "--json": ("json", True)},
}
COMMANDS: dict[str, Callable[..., int]] = {
    "up": lives.up,
    "down": lives.down,
    "status": lives.status,
}


def parse(words: Sequence[str]) -> tuple[str, dict[str, object]] | None:
    """A command and its arguments; None for whatever needs help, a look twice, or an error."""
    options = OPTIONS.get(words[0]) if words else None
    if options is None:
        return None
    values: dict[str, object] = {}
    rest = iter(words[1:])
    for word in rest:
        option, equals, text = word.partition("=")
        name, kind = options.get(option, ("", None))
        if not name or (isinstance(kind, bool) and equals):
            return None
        if isinstance(kind, bool):
            values[name] = kind
            continue
        given = text if equals else next(rest, "-")
        if not given or given.startswith("-") or (kind is int and not given.isdecimal()):
            return None
        values[name] = kind(given) if isinstance(kind, type) else given
    if not 1 <= int(str(values.get("hosts", 1))) <= lives.MOST_HOSTS:
        return None
    return words[0], values


def main() -> None:
    """The console script."""
    understood = parse(sys.argv[1:])
    if understood is not None:
        command, values = understood
        sys.exit(COMMANDS[command](**values))
    # Typer takes a tenth of a second to be imported and to look through all commands.
    from kilonova.cmd.program import app  # noqa: PLC0415

    app()


if __name__ == "__main__":
    main()
