"""dnsmasq processes: found by their command line, started in namespaces, told of changes, ended."""

from __future__ import annotations

import hashlib
import os
import re
import select
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from kilonova.embedded.network.plane import netns
from kilonova.embedded.network.plane.dhcp import DnsmasqSpec
from kilonova.embedded.network.plane.env import PlaneEnv, PlaneError
from kilonova.embedded.network.plane.system import run_tool

_END_SECONDS = 2.0
_READ_PAUSE = 0.002
_READ_LOOKS = 1000
_LONG_LOG = 1 << 20
_LEASE_IP = re.compile(r"\S+ \S+ (\S+) ")


class Running(Struct, frozen=True):
    """A dnsmasq of ours: process id, directory name, configuration file, namespace inode."""

    pid: int
    key: str
    conf_name: str
    namespace: int


def running(env: PlaneEnv) -> list[Running]:
    """All dnsmasq processes that read a configuration below the run directory."""
    mark = f"--conf-file={env.run_dir}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if len(words) < 2 or not words[1].startswith(mark):
                continue
            namespace = (entry / "ns/net").stat().st_ino
        except OSError:
            continue
        path = Path(os.fsdecode(words[1].removeprefix(b"--conf-file=")))
        found.append(Running(int(entry.name), path.parent.name, path.name, namespace))
    return found


def stop(pid: int) -> None:
    """End a process and wait until it is gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], _END_SECONDS)[0]:
                return
        raise PlaneError(f"dnsmasq {pid} does not end")
    finally:
        os.close(handle)


def in_place(env: PlaneEnv, process: Running, spec: DnsmasqSpec) -> bool:
    """Whether a process has the right configuration and sits in the right namespace."""
    if not (env.run_dir / spec.key / spec.conf_name).exists():
        return False
    try:
        namespace = (netns.RUN / spec.netns).stat().st_ino
    except FileNotFoundError:
        return False
    return process.conf_name == spec.conf_name and process.namespace == namespace


def told(env: PlaneEnv, spec: DnsmasqSpec) -> bool:
    """Whether the running process has read the present hosts and options."""
    return _read(env.run_dir / spec.key / "told") == _digest(spec)


def start(env: PlaneEnv, spec: DnsmasqSpec) -> None:
    """Write the files and start the process in its namespace."""
    home = env.run_dir / spec.key
    home.mkdir(exist_ok=True)
    home.chmod(0o755)
    for old in home.glob("dnsmasq-*.conf"):
        old.unlink()
    _forget_leases(home, _moved(home, spec))
    _write(home / spec.conf_name, spec.conf.replace("{dir}", str(home)))
    _write(home / "hosts", spec.hosts)
    _write(home / "options", spec.options)
    command = [env.dnsmasq, f"--conf-file={home / spec.conf_name}"]
    done = netns.run_in(spec.netns, lambda: run_tool(command))
    if done.returncode != 0:
        raise PlaneError(f"dnsmasq for {spec.key} did not start: {done.stderr.strip()[:300]}")
    _write(home / "told", _digest(spec))


def tell(env: PlaneEnv, spec: DnsmasqSpec, process: Running) -> None:
    """Give new hosts and options to a running process.

    If an address went to another guest while the old one's lease is still held, dnsmasq would
    refuse it: then the lease is struck out and the process started again.
    """
    home = env.run_dir / spec.key
    if _moved(home, spec) & _leased(home):
        stop(process.pid)
        start(env, spec)
        return
    _write(home / "hosts", spec.hosts)
    _write(home / "options", spec.options)
    log = home / "log"
    mark = _trim(log)
    os.kill(process.pid, signal.SIGHUP)
    last = "options" if "dhcp-optsfile=" in spec.conf else "hosts"
    _await(log, mark, f"read {home / last}".encode())
    _write(home / "told", _digest(spec))


def _trim(log: Path) -> int:
    """The log's length, after emptying one that has grown long (it is written by appending)."""
    try:
        size = log.stat().st_size
        if size > _LONG_LOG:
            os.truncate(log, 0)
            size = 0
    except FileNotFoundError:
        return 0
    return size


def _await(log: Path, mark: int, words: bytes) -> None:
    """Wait until the log says so: a guest that asks before its host is known gets no answer, and
    asks again only seconds later."""
    for _ in range(_READ_LOOKS):
        with suppress(FileNotFoundError), log.open("rb") as file:
            file.seek(mark)
            if words in file.read():
                return
        time.sleep(_READ_PAUSE)


def forget(env: PlaneEnv, key: str) -> None:
    """Remove a process's files."""
    shutil.rmtree(env.run_dir / key, ignore_errors=True)


def kept(env: PlaneEnv) -> set[str]:
    """Directories of files, of running and of forgotten processes."""
    try:
        return {entry.name for entry in env.run_dir.iterdir() if entry.is_dir()}
    except FileNotFoundError:
        return set()


def _moved(home: Path, spec: DnsmasqSpec) -> set[str]:
    """Addresses that belong to somebody since this change."""
    before, after = _owners(_read(home / "hosts")), _owners(spec.hosts)
    return {ip for ip, mac in after.items() if before.get(ip) != mac}


def _owners(hosts: str) -> dict[str, str]:
    owners = {}
    for line in hosts.splitlines():
        fields = line.split(",")
        owners[fields[-2].strip("[]")] = fields[0]
    return owners


def _leased(home: Path) -> set[str]:
    found = (_LEASE_IP.match(line) for line in _read(home / "leases").splitlines())
    return {match[1] for match in found if match}


def _forget_leases(home: Path, addresses: set[str]) -> None:
    lines = _read(home / "leases").splitlines(keepends=True)
    left = [line for line in lines if not ((m := _LEASE_IP.match(line)) and m[1] in addresses)]
    if left != lines:
        _write(home / "leases", "".join(left))


def _digest(spec: DnsmasqSpec) -> str:
    return hashlib.sha256(f"{spec.hosts}\0{spec.options}".encode()).hexdigest()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(0o644)
    fresh.replace(path)
