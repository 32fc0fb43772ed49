"""Network namespaces: made, listed, removed, and entered by threads of their own."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kilonova.embedded.network.plane.env import PlaneError

T = TypeVar("T")

RUN = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 4096, 16384, 1 << 20
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def run_in(netns: str | None, work: Callable[[], T]) -> T:
    """Run ``work`` in a fresh thread inside a named namespace (none: this process's own).

    The thread ends afterwards, so that no thread of a pool is ever left in a foreign namespace.
    Processes that ``work`` starts are in the namespace too. Blocks; raises what ``work`` raises.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            if netns is not None:
                _enter(RUN / netns)
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name=f"netns-{netns or 'own'}", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def names_with(prefix: str) -> list[str]:
    """Names of the namespaces that begin so."""
    try:
        return sorted(entry.name for entry in RUN.iterdir() if entry.name.startswith(prefix))
    except FileNotFoundError:
        return []


def alive(name: str) -> bool:
    """Whether the name stands for a namespace (a crash can leave a plain empty file)."""
    try:
        return (RUN / name).stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except FileNotFoundError:
        return False


def create(name: str) -> None:
    """Make a named namespace; what a crash left under that name is replaced."""
    _share_run()
    target = RUN / name
    if target.exists():
        delete(name)
    target.touch(mode=0o444)

    def fresh() -> None:
        _call("unshare", _CLONE_NEWNET)
        _mount(f"/proc/self/task/{threading.get_native_id()}/ns/net", str(target), _MS_BIND)

    run_in(None, fresh)


def create_nameless_and(work: Callable[[], T]) -> T:
    """Run ``work`` in a namespace that vanishes afterwards."""

    def inside() -> T:
        _call("unshare", _CLONE_NEWNET)
        return work()

    return run_in(None, inside)


def delete(name: str) -> None:
    """Remove a namespace's name; the namespace goes when its last process and socket are gone."""
    target = RUN / name
    while _libc.umount2(os.fsencode(target), _MNT_DETACH) == 0:
        pass
    target.unlink(missing_ok=True)


def _share_run() -> None:
    """Make ``/run/netns`` a shared mount, as iproute2 does, so that other mount namespaces see
    what is made and removed here."""
    RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    if _libc.mount(b"", os.fsencode(RUN), b"none", _MS_SHARED | _MS_REC, None) == 0:
        return
    if ctypes.get_errno() != errno.EINVAL:
        raise PlaneError(f"cannot share {RUN}: {os.strerror(ctypes.get_errno())}")
    _mount(str(RUN), str(RUN), _MS_BIND | _MS_REC)
    _mount("", str(RUN), _MS_SHARED | _MS_REC)


def _enter(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise PlaneError(f"there is no network namespace {path.name}") from error
    try:
        _call("setns", handle, _CLONE_NEWNET)
    finally:
        os.close(handle)


def _mount(source: str, target: str, flags: int) -> None:
    if _libc.mount(os.fsencode(source), os.fsencode(target), b"none", flags, None) != 0:
        raise PlaneError(f"cannot mount {target}: {os.strerror(ctypes.get_errno())}")


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        raise PlaneError(f"{name} failed: {os.strerror(ctypes.get_errno())}")
