"""What daemons and tools do first: read the configuration, set logging up, say what is wrong."""

from __future__ import annotations

import gc
import logging
import sys
from pathlib import Path
from typing import Any

import msgspec

from kilonova.base import log as logs
from kilonova.base.errors import Fault
from kilonova.config.settings import Settings, load

log = logging.getLogger(__name__)


class Unconfigured(Exception):
    """A section of the configuration lacks what a daemon needs; the text says which option."""


class Asked(msgspec.Struct, frozen=True):
    """What the command line says. ``overrides``: section → option → value."""

    files: tuple[Path, ...] = ()
    dirs: tuple[Path, ...] = ()
    overrides: dict[str, dict[str, Any]] = {}
    host: str | None = None
    port: int | None = None


def read_settings(asked: Asked) -> Settings:
    """The settings the command line asks for."""
    return load(asked.files, dirs=asked.dirs, overrides=asked.overrides)


def log_to(settings: Settings, name: str) -> None:
    """Set logging up as ``[DEFAULT]`` says (``log_dir`` holds a file named after the daemon)."""
    section = settings.default
    file: Path | None = None
    if section.log_file:
        file = Path(section.log_dir or "", section.log_file)
    elif section.log_dir:
        file = Path(section.log_dir, f"{name}.log")
    logs.setup(json_lines=section.use_json, debug=section.debug, file=file)
    for chatty in ("uvicorn", "alembic.runtime.plugins"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def steady() -> None:
    """What was made while starting stays: the collector of cycles need not look at it again.

    It has some hundred thousand objects, and a request leaves few cycles behind; so it also looks
    less often at what is made from now on.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def fail(name: str, text: str) -> int:
    """Say one sentence on standard error, and in the log where that is a file; 1."""
    sentence = logs.mask(text.strip())
    if any(isinstance(h, logging.FileHandler) for h in logging.getLogger().handlers):
        log.error("%s", sentence)
    print(f"{name}: {sentence}", file=sys.stderr)
    return 1


def text_of(error: Exception) -> str:
    """The sentence an error carries."""
    return error.message if isinstance(error, Fault) else str(error)
