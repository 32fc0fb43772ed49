"""What a service is built with, in a daemon of its own and in the cloud of one process alike."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Protocol

from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.config.settings import Settings
from kilonova.web.client import HttpClient


class Process(Protocol):
    """A daemon, or an all-in-one cloud.

    ``stack`` is closed when the process ends, last entered first. ``near`` is where relative file
    names of the configuration start.
    """

    @property
    def settings(self) -> Settings: ...

    @property
    def http(self) -> HttpClient: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def ids(self) -> Ids: ...

    @property
    def stack(self) -> contextlib.AsyncExitStack: ...

    @property
    def near(self) -> tuple[Path, ...]: ...
