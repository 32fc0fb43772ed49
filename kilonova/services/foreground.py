"""Running an all-in-one cloud in this process until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import time
from typing import TYPE_CHECKING

from kilonova import __version__
from kilonova.base import log as logs
from kilonova.config.settings import Settings, in_environment, load
from kilonova.services import all_in_one
from kilonova.services import layout as layouts
from kilonova.services.lifecycle import CannotStart, Wanted, down_command, prepare, say_ready
from kilonova.services.progress import Line, Pipe, Screen, Tell, screen
from kilonova.services.startup import steady
from kilonova.web.serve import new_event_loop

if TYPE_CHECKING:
    from rich.console import Console


def run(wanted: Wanted, told: Console | Pipe) -> None:
    """Run the cloud until SIGTERM or SIGINT, telling a person or another process how it goes."""
    # What a start makes stays: to look for garbage in it again and again takes a fifth of the time.
    gc.disable()
    prepare(wanted)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(layouts.held(wanted.state_dir))
        except layouts.Running as error:
            raise CannotStart(f"{error} Stop it with: {down_command(wanted)}") from None
        logs.setup(file=wanted.layout().log_file)
        pipe = told if isinstance(told, Pipe) else None
        shown: Tell = told if isinstance(told, Pipe) else stack.enter_context(screen(told))
        try:
            with asyncio.Runner(loop_factory=lambda: _event_loop(wanted)) as runner:
                runner.run(_serve(wanted, shown, told))
        except CannotStart as error:
            if pipe is None:
                raise
            pipe.send(Line(error=str(error)))
            raise SystemExit(1) from None
        except Exception as error:
            logging.getLogger("kilonova").exception("the cloud ended badly")
            text = f"{error} (more in {wanted.layout().log_file})"
            if pipe is None:
                raise CannotStart(text) from error
            pipe.send(Line(error=text))
            raise SystemExit(1) from None


def _event_loop(wanted: Wanted) -> asyncio.AbstractEventLoop:
    """The loop that ``[kilonova] event_loop`` in the person's own options asks for."""
    own = wanted.layout().own_options
    settings = Settings()
    if own.exists() or in_environment():
        settings = load([own] if own.exists() else [])
    return new_event_loop(settings.kilonova.event_loop)


async def _serve(wanted: Wanted, shown: Tell, told: Console | Pipe) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    cloud = all_in_one.Cloud(wanted, shown)
    async with cloud:
        layouts.write_run(
            wanted.layout(),
            {"kilonova": os.getpid()},
            driver=wanted.driver,
            hosts=wanted.hosts,
            demo=wanted.demo,
            version=__version__,
            started=time.time(),
        )
        gc.freeze()
        gc.enable()
        if isinstance(told, Pipe):
            told.send(Line(ready=True))
            told.close()
        else:
            if isinstance(shown, Screen):
                shown.done()
            say_ready(wanted, told)
        steady()
        await stop.wait()
