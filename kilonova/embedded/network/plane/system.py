"""What netlink does not do: taps, offload switches, sysctls, rule sets, announcements, locks."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import ipaddress
import os
import shlex
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kilonova.embedded.network.plane.env import PlaneEnv, PlaneError

_TUNSETIFF, _TUNSETPERSIST, _TUNSETOWNER = 0x400454CA, 0x400454CB, 0x400454CC
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_SIOCETHTOOL = 0x8946
_ETHTOOL_GTXCSUM, _ETHTOOL_STXCSUM = 0x16, 0x17
_SYS = Path("/proc/sys/net")
_TOOL_TIMEOUT = 30.0


@contextmanager
def locked(env: PlaneEnv) -> Iterator[None]:
    """One at a time per deployment and host, also among processes."""
    env.run_dir.mkdir(parents=True, exist_ok=True)
    env.run_dir.chmod(0o755)
    handle = os.open(env.run_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def new_tap(name: str, owner: int | None) -> Iterator[None]:
    """A tap in the namespace of this thread that stays when the body ends well and else vanishes:
    a crash in between leaves nothing. Packets carry a virtio header; one queue.

    ``owner`` is the user id that may open it besides root. An existing tap is opened again; one
    that a guest holds is left as it is.
    """
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        try:
            fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise PlaneError(f"{name}: cannot make the tap: {error.strerror}") from error
            yield
            return
        if owner is not None:
            fcntl.ioctl(handle, _TUNSETOWNER, owner)
        yield
        fcntl.ioctl(handle, _TUNSETPERSIST, 1)
    finally:
        os.close(handle)


def plain_checksums(device: str, *, fix: bool) -> bool:
    """Whether the device leaves checksums to hardware; with ``fix`` it stops doing so.

    Some DHCP clients read raw packets and drop those whose checksum is not filled in.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        value = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_GTXCSUM, 0))
        request = struct.pack("16sP", device.encode(), ctypes.addressof(value))
        fcntl.ioctl(probe, _SIOCETHTOOL, request)
        offloads = bool(struct.unpack_from("II", value.raw)[1])
        if offloads and fix:
            struct.pack_into("II", value, 0, _ETHTOOL_STXCSUM, 0)
            fcntl.ioctl(probe, _SIOCETHTOOL, request)
    return offloads


def sysctl(path: str, value: str, *, fix: bool) -> bool:
    """Whether ``/proc/sys/net/PATH`` (of this thread's namespace) differs; with ``fix`` set it."""
    file = _SYS / path
    try:
        if file.read_text().strip() == value:
            return False
        if fix:
            file.write_text(value)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise PlaneError(f"cannot set net/{path}: {error.strerror}") from error
    return True


def no_ipv6(device: str) -> None:
    """Keep the host from speaking IPv6 on a bridge or bridge port."""
    sysctl(f"ipv6/conf/{device}/disable_ipv6", "1", fix=True)


def load_rules(env: PlaneEnv, rules: str) -> None:
    """Load a rule set in one transaction."""
    done = run_tool([env.nft, "-f", "-"], rules)
    if done.returncode != 0:
        raise PlaneError(f"nft refused the rule set: {done.stderr.strip()[:500]}")


def rules_loaded(env: PlaneEnv, table: str, families: tuple[str, ...], revision: str) -> bool:
    """Whether exactly this revision is loaded in each of the families."""
    # One call each: nft 1.0.6 reads only one family when two lists are in one input.
    return all(
        run_tool([env.nft, f"list chain {family} {table} {revision}"]).returncode == 0
        for family in families
    )


def table_exists(env: PlaneEnv, family: str, table: str) -> bool:
    """Whether the table is there, whatever is in it."""
    return f"table {family} {table}" in run_tool([env.nft, "list tables"]).stdout.splitlines()


def forward_rules(tool: str) -> list[str]:
    """``iptables`` rules of the FORWARD chain, the policy first; empty if there is no such tool."""
    if tool_path(tool) is None:
        return []
    return run_tool([tool, "-w", "5", "-S", "FORWARD"]).stdout.splitlines()


def accept_forwarded(tool: str, mark: str) -> None:
    """Let packets of our bridges and gateways pass the FORWARD chain of another tool.

    They have met our own rules; a container engine's policy would drop them all.
    """
    for match in (["-i", "kvb+"], ["-i", "kvh+"], ["-o", "kvh+"]):
        rule = [*match, "-m", "comment", "--comment", mark, "-j", "ACCEPT"]
        done = run_tool([tool, "-w", "5", "-I", "FORWARD", *rule])
        if done.returncode != 0:
            raise PlaneError(f"{tool}: {done.stderr.strip()[:300]}")


def withdraw_accepted(tool: str, mark: str) -> None:
    """Remove the rules ``accept_forwarded`` made."""
    for rule in forward_rules(tool):
        words = shlex.split(rule)
        if mark in words and words[:1] == ["-A"]:
            run_tool([tool, "-w", "5", "-D", *words[1:]])


def chain(env: PlaneEnv, table: str, name: str) -> str:
    """A chain of the ``inet`` family as text; empty if it is not there."""
    return run_tool([env.nft, f"list chain inet {table} {name}"]).stdout


def load_module(name: str) -> None:
    """Ask for a kernel module; whether it helped is seen by what it provides."""
    with suppress(PlaneError):
        run_tool(["modprobe", "-q", name])


def announce(device: str, mac: str, addresses: list[str]) -> None:
    """Tell neighbours by gratuitous ARP where the IPv4 addresses are now (RFC 5227, section 3)."""
    hardware = bytes.fromhex(mac.replace(":", ""))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as wire:
        wire.bind((device, 0x0806))
        for address in addresses:
            ip = ipaddress.ip_address(address).packed
            frame = b"\xff" * 6 + hardware + b"\x08\x06"
            frame += struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
            wire.send(frame + hardware + ip + bytes(6) + ip)


def tool_path(name: str) -> str | None:
    """Where a program is; also looks where a root shell made by ``su`` does not."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def run_tool(command: list[str], text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program in this thread's namespace, with ``text`` as its input; bounded in time."""
    program = tool_path(command[0])
    if program is None:
        raise PlaneError(f"{command[0]} is not installed")
    try:
        return subprocess.run(
            [program, *command[1:]],
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=_TOOL_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PlaneError(f"{command[0]} did not end within {_TOOL_TIMEOUT:.0f} s") from error
