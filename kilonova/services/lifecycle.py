"""Starting an all-in-one cloud in the background, and stopping it; quick to import."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kilonova.services import layout as layouts

if TYPE_CHECKING:  # slow to import, and only a start shows its progress
    from rich.console import Console

    from kilonova.services.progress import Screen

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


def start_detached(wanted: Wanted, console: Callable[[], Console], *, quiet: bool = False) -> None:
    """Start a process of its own, show its progress, return when every endpoint answers.

    ``console`` is asked for when the process is on its way: making one takes a while.
    ``quiet`` leaves out what to type next.
    """
    prepare(wanted)
    if layouts.is_held(wanted.state_dir):
        raise CannotStart(
            f"A cloud already runs on {wanted.state_dir}. Stop it with: {down_command(wanted)}"
        )
    reading, writing = os.pipe()
    argv = [sys.executable, "-m", "kilonova.cmd.background", encoded(wanted), str(writing)]
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
    from kilonova.services.progress import screen  # noqa: PLC0415 (while the child starts)

    shown_on = console()
    with screen(shown_on) as shown, os.fdopen(reading, "rb") as lines:
        ready = _follow(lines.fileno(), shown)
    if not ready:
        code = child.wait(10)
        raise CannotStart(
            f"The cloud ended with code {code} while it started; {wanted.layout().log_file} "
            "says more."
        )
    if not quiet:
        say_ready(wanted, shown_on)


def encoded(wanted: Wanted) -> str:
    """A wish as JSON, for the process that fulfils it."""
    return msgspec.json.encode(wanted, enc_hook=str).decode()


def decoded(text: str) -> Wanted:
    """What ``encoded`` made."""
    return msgspec.json.decode(text, type=Wanted, dec_hook=lambda kind, value: kind(value))


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


def stop(state_dir: Path, say: Callable[[str], None], *, guests: bool) -> None:
    """End the processes of the cloud on ``state_dir``; what is not running is no error."""
    if layouts.is_held(state_dir):
        for name, pid in layouts.process_ids(state_dir).items():
            _end(name, pid, state_dir)
    if guests:
        import asyncio  # noqa: PLC0415 (slow to import, like what follows)

        from kilonova.services import sweep  # noqa: PLC0415

        for line in asyncio.run(sweep.guests(state_dir)):
            say(f"  {line}")
    with contextlib.suppress(FileNotFoundError):
        (state_dir / "pids").unlink()
    say("The cloud is down.")


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
