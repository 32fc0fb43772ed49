"""A host and its guests as network namespaces; guests hang on veth pairs in place of taps."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from kilonova.embedded.network.plane import PlaneEnv, capable, names, netns
from kilonova.embedded.network.plane.desired import Fixed, Port, Rule

MakePort = Callable[..., Port]

_count = itertools.count()
QUIET = 0.25


class Lab:
    """Namespaces, guests and sockets that all go away at the end."""

    def __init__(self) -> None:
        self.mark = f"kt{os.getpid()}x{next(_count)}"
        self.host = self.namespace("host")
        self.dir = Path(tempfile.mkdtemp(prefix="kvplane-", dir="/tmp"))
        self.dir.chmod(0o755)
        self.env = PlaneEnv(self.mark, self.dir / "run", netns=self.host, tap_grace=0.0)
        self._sockets: list[socket.socket] = []

    def namespace(self, name: str) -> str:
        full = f"{self.mark}-{name}"
        netns.create(full)
        self.run(full, "ip link set lo up")
        return full

    def run(self, ns: str, command: str, *, check: bool = True) -> str:
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{ns}", "--", *command.split()],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
            env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: {done.stderr}")
        return done.stdout if done.returncode == 0 else ""

    def env_of(self, host: str) -> PlaneEnv:
        return msgspec.structs.replace(self.env, netns=host, run_dir=self.dir / f"run-{host}")

    def guest(
        self, port: Port, bridge: str, *, host: str = "", prefix: int = 24, mtu: int = 1450
    ) -> str:
        """A namespace that stands for a guest; the tap side is in the deployment's link group."""
        ns = self.namespace(port.tap)
        group = names.link_group(self.mark)
        host = host or self.host
        self.run(
            host,
            f"ip link add {port.tap} mtu {mtu} group {group} type veth "
            f"peer name eth0 mtu {mtu} address {port.mac} netns {ns}",
        )
        self.run(host, f"ip link set {port.tap} master {bridge} up")
        for path in ("default", "eth0"):
            self.sysctl(ns, f"ipv6/conf/{path}/accept_dad", "0")
        for fixed in port.fixed_ips:
            length = 64 if ":" in fixed.ip else prefix
            self.run(ns, f"ip addr add {fixed.ip}/{length} dev eth0")
        self.run(ns, "ip link set eth0 up")
        return ns

    def sysctl(self, ns: str, path: str, value: str) -> None:
        netns.run_in(ns, lambda: Path(f"/proc/sys/net/{path}").write_text(value))

    def pings(self, ns: str, address: str, *, source: str | None = None, size: int = 56) -> bool:
        """Whether an answer comes, be the machine ever so busy."""
        return any(self._ping(ns, address, source, size) for _ in range(12))

    def mute(self, ns: str, address: str, *, source: str | None = None) -> bool:
        """Whether no answer comes within a moment."""
        return not self._ping(ns, address, source, 56)

    def _ping(self, ns: str, address: str, source: str | None, size: int) -> bool:
        extra = f"-I {source} " if source else ""
        command = f"ping -n -q -c 1 -s {size} -W {QUIET} {extra}{address}"
        return " 0% packet loss" in self.run(ns, command, check=False)

    def keep(self, made: socket.socket) -> socket.socket:
        self._sockets.append(made)
        return made

    def listener(self, ns: str, port: int, address: str = "::") -> socket.socket:
        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address, port))
            made.listen(16)
            return made

        return self.keep(netns.run_in(ns, make))

    def shut(self, ns: str, address: str, port: int) -> bool:
        """Whether no connection comes about within a moment."""
        return self.connect(ns, address, port, QUIET) is None

    def connect(self, ns: str, address: str, port: int, wait: float = 5.0) -> socket.socket | None:
        """A connection, be the machine ever so busy."""

        def make() -> socket.socket | None:
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            made.settimeout(wait)
            try:
                made.connect((address, port))
            except OSError:
                made.close()
                return None
            return made

        made = netns.run_in(ns, make)
        return self.keep(made) if made is not None else None

    def silent(self, sock: socket.socket) -> bool:
        """Whether nothing is received within a moment."""
        before = sock.gettimeout()
        sock.settimeout(QUIET)
        try:
            return not sock.recv(10)
        except TimeoutError:
            return True
        finally:
            sock.settimeout(before)

    def caller(self, listener: socket.socket) -> str:
        """The address the next connection comes from."""
        listener.settimeout(5)
        made, peer = listener.accept()
        made.close()
        return str(peer[0]).removeprefix("::ffff:")

    def udp(self, ns: str, port: int = 0) -> socket.socket:
        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            made.bind(("::", port))
            made.settimeout(5.0)
            return made

        return self.keep(netns.run_in(ns, make))

    def end(self) -> None:
        for made in self._sockets:
            made.close()
        for ns in netns.names_with(f"{self.mark}-"):
            netns.delete(ns)
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture(scope="session")
def plane_works() -> None:
    why = capable()
    if why is not None:
        pytest.skip(why)


@pytest.fixture
def lab(plane_works: None) -> Iterator[Lab]:
    with contextlib.ExitStack() as stack:
        made = Lab()
        stack.callback(made.end)
        stack.callback(_end_deployment, made)
        yield made


def _end_deployment(lab: Lab) -> None:
    """What a failed test leaves behind, without the code under test."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if f"--conf-file={lab.dir}/" in (entry / "cmdline").read_text():
                os.kill(int(entry.name), 9)
    for ns in netns.names_with(names.namespace_prefix(lab.mark)):
        netns.delete(ns)


@pytest.fixture
def make_port() -> MakePort:
    """Port ``number`` of network ``net`` with 10.0.0.N and fd00::N."""

    def make(number: int, *rules: Rule, **more: object) -> Port:
        values: dict[str, object] = {
            "id": f"port-{number}",
            "network_id": "net",
            "tap": f"tapguest{number}",
            "mac": f"fa:16:3e:00:00:{number:02x}",
            "fixed_ips": (Fixed("v4", f"10.0.0.{number}"), Fixed("v6", f"fd00::{number:x}")),
            "rules": rules,
            **more,
        }
        return Port(**values)  # type: ignore[arg-type]

    return make
