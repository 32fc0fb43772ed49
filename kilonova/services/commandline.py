"""The options all daemons and tools share, with oslo's spellings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oslo_config import cfg

from kilonova import __version__
from kilonova.services.startup import Asked


def parser(name: str, about: str, *, project: str = "nova") -> argparse.ArgumentParser:
    """A parser with ``--config-file``, ``--config-dir``, the log options and ``--version``."""
    made = argparse.ArgumentParser(prog=name, description=about, allow_abbrev=False)
    made.set_defaults(project=project)
    common(made)
    made.add_argument("--version", action="version", version=__version__)
    return made


def common(made: argparse.ArgumentParser) -> None:
    """Add the options every command understands."""
    made.add_argument(
        "--config-file",
        action="append",
        type=Path,
        metavar="PATH",
        help="INI file to read; several may be given, later ones win.",
    )
    made.add_argument(
        "--config-dir",
        action="append",
        type=Path,
        metavar="DIR",
        help="Directory whose *.conf files are read after the files.",
    )
    made.add_argument(
        "-d", "--debug", action=argparse.BooleanOptionalAction, help="Log debug lines too."
    )
    made.add_argument("--log-file", "--logfile", metavar="PATH", help="Log to this file.")
    made.add_argument("--log-dir", "--logdir", metavar="DIR", help="Log to a file in here.")
    made.add_argument(
        "--use-json",
        action=argparse.BooleanOptionalAction,
        help="Log one JSON object a line.",
    )


def daemon(name: str, about: str, argv: Sequence[str] | None, *, api: bool) -> Asked:
    """Parse a daemon's command line; SystemExit(2) when it makes no sense.

    ``api``: it listens, so ``--host`` and ``--port`` say where; of other daemons ``--host`` is
    the name they go by (``[DEFAULT] host``).
    """
    project = "placement" if name.startswith("placement") else "nova"
    made = parser(name, about, project=project)
    if api:
        made.add_argument("--host", metavar="ADDRESS", help="Address to listen on.")
        made.add_argument("--port", type=_port, metavar="N", help="Port to listen on.")
    else:
        made.add_argument("--host", metavar="NAME", help="Name this host goes by.")
    given = made.parse_args(argv)
    found = asked(given)
    if api:
        return Asked(found.files, found.dirs, found.overrides, given.host, given.port)
    if given.host:
        found.overrides.setdefault("default", {})["host"] = given.host
    return found


def asked(given: argparse.Namespace) -> Asked:
    """What the common options say; without files those of the usual places are read."""
    default: dict[str, Any] = {
        option: getattr(given, option)
        for option in ("debug", "use_json", "log_file", "log_dir")
        if getattr(given, option) is not None
    }
    files, dirs = given.config_file, given.config_dir
    if files is None and dirs is None:
        files = [Path(f) for f in cfg.find_config_files(project=given.project)]
        dirs = [Path(d) for d in cfg.find_config_dirs(project=given.project)]
    return Asked(
        files=tuple(files or ()),
        dirs=tuple(dirs or ()),
        overrides={"default": default} if default else {},
    )


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return number
