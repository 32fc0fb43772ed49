"""Starting an all-in-one cloud in the fore- or background, stopping it, looking at it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kilonova import __version__
from kilonova.base import log as logs
from kilonova.services import layout as layouts

if TYPE_CHECKING:  # slow to import, and only a start shows its progress
    from rich.console import Console

    from kilonova.services.progress import Pipe, Screen, Tell

START_SECONDS = 600
STOP_SECONDS = 60


class CannotStart(Exception):
    """One sentence that says why, and what to do."""


class Wanted(msgspec.Struct, frozen=True):
    """What the person asked for."""

    state_dir: Path
    port_base: int | None = None
    driver: str = "qemu"
    hosts: int = 1
    demo: bool = True
    default_place: bool = False

    def layout(self) -> layouts.Layout:
        """Directory and ports."""
        return layouts.Layout(self.state_dir, layouts.ports(self.port_base))


def run_foreground(wanted: Wanted, console: Console, *, progress_fd: int | None) -> None:
    """Run the cloud until SIGTERM or SIGINT."""
    from kilonova.services.progress import Line, Pipe, screen  # noqa: PLC0415

    # What a start makes stays: to look for garbage in it again and again takes a fifth of the time.
    gc.disable()
    prepare(wanted)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(layouts.held(wanted.state_dir))
        except layouts.Running as error:
            raise CannotStart(f"{error} Stop it with: {down_command(wanted)}") from None
        pipe = Pipe(progress_fd) if progress_fd is not None else None
        logs.setup(file=wanted.layout().log_file)
        shown: Tell = pipe or stack.enter_context(screen(console))
        try:
            with asyncio.Runner(loop_factory=lambda: _event_loop(wanted)) as runner:
                runner.run(_serve(wanted, shown, console, pipe))
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
    from kilonova.config.settings import Settings, in_environment, load  # noqa: PLC0415 (slow)
    from kilonova.web.serve import new_event_loop  # noqa: PLC0415

    own = wanted.layout().own_options
    settings = Settings()
    if own.exists() or in_environment():
        settings = load([own] if own.exists() else [])
    return new_event_loop(settings.kilonova.event_loop)


async def _serve(wanted: Wanted, shown: Tell, console: Console, pipe: Pipe | None) -> None:
    from kilonova.services import all_in_one  # noqa: PLC0415 (slow to import, not for `down`)
    from kilonova.services.progress import Line, Screen  # noqa: PLC0415
    from kilonova.services.startup import steady  # noqa: PLC0415

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
        if pipe is not None:
            pipe.send(Line(ready=True))
            pipe.close()
        else:
            if isinstance(shown, Screen):
                shown.done()
            say_ready(wanted, console)
        steady()
        await stop.wait()


def start_detached(wanted: Wanted, console: Console, *, quiet: bool = False) -> None:
    """Start a process of its own, show its progress, return when every endpoint answers.

    ``quiet`` leaves out what to type next.
    """
    from kilonova.services.progress import screen  # noqa: PLC0415

    prepare(wanted)
    if layouts.is_held(wanted.state_dir):
        raise CannotStart(
            f"A cloud already runs on {wanted.state_dir}. Stop it with: {down_command(wanted)}"
        )
    reading, writing = os.pipe()
    argv = [sys.executable, "-m", "kilonova.cmd.kilonova", "up"]
    argv += ["--state-dir", str(wanted.state_dir), "--driver", wanted.driver]
    argv += ["--hosts", str(wanted.hosts), "--demo" if wanted.demo else "--no-demo"]
    argv += ["--port-base", str(wanted.port_base)] if wanted.port_base is not None else []
    argv += ["--progress-fd", str(writing)]
    with wanted.layout().log_file.open("ab") as out:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=(writing,),
            start_new_session=True,
            cwd="/",
        )
    os.close(writing)
    with screen(console) as shown, os.fdopen(reading, "rb") as lines:
        ready = _follow(lines.fileno(), shown)
    if not ready:
        code = child.wait(10)
        raise CannotStart(
            f"The cloud ended with code {code} while it started; {wanted.layout().log_file} "
            "says more."
        )
    if not quiet:
        say_ready(wanted, console)


def _follow(fd: int, shown: Screen) -> bool:
    """Show the child's lines until it is ready (True) or gone (False)."""
    from kilonova.services.progress import Line  # noqa: PLC0415

    buffer = b""
    while True:
        chunk = os.read(fd, 65536)
        if not chunk:
            return False
        buffer += chunk
        *whole, buffer = buffer.split(b"\n")
        for raw in whole:
            line = msgspec.json.decode(raw, type=Line)
            if line.error:
                raise CannotStart(line.error)
            if line.ready:
                return True
            if line.note:
                shown.note(line.note)
            if line.step:
                shown.step(line.step, line.share)


def stop(state_dir: Path, console: Console, *, guests: bool) -> None:
    """End the processes of the cloud on ``state_dir``; what is not running is no error."""
    if layouts.is_held(state_dir):
        for name, pid in layouts.process_ids(state_dir).items():
            _end(name, pid, state_dir)
    if guests:
        from kilonova.services import sweep  # noqa: PLC0415

        for line in asyncio.run(sweep.guests(state_dir)):
            console.print(f"  {line}", highlight=False)
    with contextlib.suppress(FileNotFoundError):
        (state_dir / "pids").unlink()
    console.print("The cloud is down.", highlight=False)


def _end(name: str, pid: int, state_dir: Path) -> None:
    """SIGTERM, and SIGKILL when that does not help in time. Only our own processes are meant."""
    if not _ours(pid):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    while time.monotonic() < end:
        if not _ours(pid) or not layouts.is_held(state_dir):
            return
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    raise CannotStart(f"{name} (process {pid}) did not end in {STOP_SECONDS} s and was killed.")


def _ours(pid: int) -> bool:
    try:
        return b"kilonova" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def prepare(wanted: Wanted) -> None:
    """Make the state directory; CannotStart says what is wrong with the wish or the place."""
    if wanted.driver not in ("qemu", "libvirt", "fake"):
        raise CannotStart(f"There is no driver {wanted.driver!r}: use qemu, libvirt or fake.")
    if wanted.driver != "fake" and wanted.hosts != 1:
        raise CannotStart("--hosts is for --driver fake: a machine is one host for real guests.")
    if wanted.port_base is not None and not 1024 <= wanted.port_base <= 65000:
        raise CannotStart("--port-base must lie between 1024 and 65000.")
    try:
        wanted.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = wanted.state_dir / ".write"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise CannotStart(
            f"{wanted.state_dir} cannot be written ({error.strerror}): "
            "choose another place with --state-dir."
        ) from None
    place = os.statvfs(wanted.state_dir)
    free = place.f_bavail * place.f_frsize >> 20
    least = 64 if wanted.driver == "fake" else 1024
    if free < least:
        raise CannotStart(
            f"{wanted.state_dir} has {free} MiB free, {least} are needed: "
            "make room or choose another place with --state-dir."
        )


def down_command(wanted: Wanted) -> str:
    """What to type to stop this cloud."""
    return "kilonova down" + ("" if wanted.default_place else f" --state-dir {wanted.state_dir}")


def say_ready(wanted: Wanted, console: Console) -> None:
    """The last words of a start: what to type next."""
    layout = wanted.layout()
    console.print("[green]The cloud is up.[/] Next:", highlight=False)
    if not wanted.default_place:
        console.print(
            f"  export OS_CLIENT_CONFIG_FILE={layout.clouds_yaml}", highlight=False, soft_wrap=True
        )
    console.print("  export OS_CLOUD=kilonova        # or kilonova-admin", highlight=False)
    console.print("  openstack server list", highlight=False)
    console.print(f"  {down_command(wanted)}", highlight=False, soft_wrap=True)
