"""Start PostgreSQL, MariaDB and RabbitMQ of the distribution in a directory of their own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path


def free_port() -> int:
    """A TCP port nobody uses on 127.0.0.1 now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Server:
    """A started server: how clients reach it, and ways to hurt it."""

    def __init__(self, url: str, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.url = url
        self._start = start
        self.process = start()

    def kill(self) -> None:
        """``kill -9`` of the whole process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def restart(self) -> None:
        """Start it again on the same port with the same data."""
        self.process = self._start()

    def stop(self) -> None:
        """End it politely, then surely."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


def _as(user: str) -> list[str]:
    if os.getuid() != 0:
        return []
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


def _own(path: Path, user: str) -> None:
    if os.getuid() == 0:
        entry = pwd.getpwnam(user)
        subprocess.run(["chown", "-R", f"{entry.pw_uid}:{entry.pw_gid}", str(path)], check=True)
        for parent in path.parents:
            if parent == Path("/tmp"):
                break
            parent.chmod(parent.stat().st_mode | 0o055)


def _popen(argv: list[str], where: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    with (where / "output.log").open("ab") as out:
        return subprocess.Popen(
            argv,
            cwd=where,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_port(
    port: int, process: subprocess.Popen[bytes], where: Path, seconds: float = 60
) -> None:
    """Return when the port accepts; AssertionError with the log if the process ends or is late."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError((where / "output.log").read_text(errors="replace")[-2000:])
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise AssertionError(f"port {port} did not open within {seconds} s")


def find(name: str, *places: str) -> str | None:
    """The path of a server program, looked for where Debian hides it."""
    found = shutil.which(name)
    if found:
        return found
    for place in places:
        hits = sorted(Path("/").glob(place.lstrip("/")))
        if hits:
            return str(hits[-1])
    return None


@contextlib.contextmanager
def postgres(where: Path) -> Iterator[Server]:
    """A PostgreSQL cluster; the URL is of its database ``postgres`` (superuser)."""
    program = find("postgres", "/usr/lib/postgresql/*/bin/postgres")
    assert program, "install postgresql"
    data = where / "data"
    where.mkdir(parents=True, exist_ok=True)
    _own(where, "postgres")
    env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    initdb = str(Path(program).with_name("initdb"))
    subprocess.run(
        [*_as("postgres"), initdb, "-A", "trust", "-U", "kilonova", "--no-sync", "-D", str(data)],
        check=True,
        env=env,
        stdout=subprocess.DEVNULL,
        cwd=where,
    )
    port = free_port()

    def start() -> subprocess.Popen[bytes]:
        argv = [*_as("postgres"), program, "-D", str(data), "-p", str(port)]
        argv += ["-h", "127.0.0.1", "-k", str(where), "-c", "max_connections=300"]
        process = _popen(argv, where, env)
        wait_port(port, process, where)
        return process

    server = Server(f"postgresql+psycopg://kilonova@127.0.0.1:{port}/postgres", start)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def mariadb(where: Path) -> Iterator[Server]:
    """A MariaDB server; the URL is of its database ``test`` with all rights."""
    program = find("mariadbd", "/usr/sbin/mariadbd", "/usr/sbin/mysqld")
    assert program, "install mariadb-server"
    data = where / "data"
    data.mkdir(parents=True, exist_ok=True)
    _own(where, "mysql")
    env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    subprocess.run(
        [
            *_as("mysql"),
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ],
        check=True,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=where,
    )
    port = free_port()
    init = where / "init.sql"
    init.write_text(
        "CREATE DATABASE IF NOT EXISTS test CHARACTER SET utf8mb4;\n"
        "GRANT ALL ON *.* TO kilonova@'127.0.0.1' IDENTIFIED BY 'kilonova' WITH GRANT OPTION;\n"
    )
    _own(where, "mysql")

    def start() -> subprocess.Popen[bytes]:
        argv = [*_as("mysql"), program, "--no-defaults", f"--datadir={data}", f"--port={port}"]
        argv += ["--bind-address=127.0.0.1", f"--socket={where}/s", "--max-connections=300"]
        argv += [f"--init-file={init}", "--skip-name-resolve", f"--pid-file={where}/pid"]
        process = _popen(argv, where, env)
        wait_port(port, process, where)
        return process

    server = Server(f"mysql+pymysql://kilonova:kilonova@127.0.0.1:{port}/test", start)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def rabbitmq(where: Path) -> Iterator[Server]:
    """A RabbitMQ node on loopback; the URL is an oslo transport URL of guest."""
    program = find("rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmq-server")
    real = find("rabbitmq-server.real", "/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server")
    assert program, "install rabbitmq-server"
    where.mkdir(parents=True, exist_ok=True)
    port, dist = free_port(), free_port()
    user = "rabbitmq"
    _own(where, user)
    conf = where / "rabbitmq.conf"
    conf.write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\nloopback_users = none\n")
    (where / "enabled_plugins").write_text("[].\n")
    epmd = free_port()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(where),
        "LANG": "C.UTF-8",
        "RABBITMQ_NODENAME": f"kilonova{port}@localhost",
        "RABBITMQ_MNESIA_BASE": str(where / "mnesia"),
        "RABBITMQ_LOG_BASE": str(where / "log"),
        "RABBITMQ_CONFIG_FILE": str(conf),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(where / "enabled_plugins"),
        "RABBITMQ_DIST_PORT": str(dist),
        "RABBITMQ_PID_FILE": str(where / "pid"),
        "ERL_EPMD_PORT": str(epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd true",
    }
    _own(where, user)

    def start() -> subprocess.Popen[bytes]:
        process = _popen([*_as(user), real or program], where, env)
        wait_port(port, process, where, 90)
        return process

    server = Server(f"rabbit://guest:guest@127.0.0.1:{port}/", start)
    try:
        yield server
    finally:
        server.stop()
        subprocess.run(
            ["epmd", "-port", str(epmd), "-kill"], env=env, check=False, capture_output=True
        )
