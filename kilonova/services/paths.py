"""Directories the configuration names."""

from __future__ import annotations

import os
from pathlib import Path

from kilonova.config.settings import Settings
from kilonova.services.startup import Unconfigured


def state_path(settings: Settings) -> Path:
    """``[DEFAULT] state_path``, made if it is not there; Unconfigured when it cannot be used."""
    path = Path(settings.default.state_path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unconfigured(f"[DEFAULT] state_path {path}: {error.strerror}.") from None
    if not os.access(path, os.W_OK):
        raise Unconfigured(f"[DEFAULT] state_path {path} is not writable for this user.")
    return path
